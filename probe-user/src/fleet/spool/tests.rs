use super::*;

fn texts(lines: &Lines) -> Vec<String> {
    lines.iter().map(|(line, _)| String::from_utf8_lossy(line).into_owned()).collect()
}

/// Reads what is there, and acknowledges it.
fn take(reader: &mut Reader) -> Vec<String> {
    let lines = reader.read().unwrap();
    if let Some((_, end)) = lines.iter().last() {
        reader.acknowledge(end).unwrap();
    }
    texts(&lines)
}

/// The numbers of the segments in a state directory.
fn numbers(state: &Path) -> Vec<u64> {
    segments(&state.join(FOLDER)).unwrap().into_iter().map(|(number, _)| number).collect()
}

#[test]
fn lines_that_are_not_acknowledged_come_again_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let (mut writer, mut reader) = open(state.path(), 1 << 20).unwrap();
    assert_eq!(writer.write(b"a\nb\n").unwrap(), 4);
    assert_eq!(take(&mut reader), ["a", "b"]);
    writer.write(b"c\n").unwrap();
    let lines = reader.read().unwrap();
    assert_eq!((texts(&lines), lines.is_earlier), (vec!["c".to_owned()], false));
    drop((writer, reader));
    let (mut writer, mut reader) = open(state.path(), 1 << 20).unwrap();
    writer.write(b"d\n").unwrap();
    assert!(reader.read().unwrap().is_earlier);
    assert_eq!(take(&mut reader), ["c"], "the segment of the earlier run comes first");
    let lines = reader.read().unwrap();
    assert_eq!((texts(&lines), lines.is_earlier), (vec!["d".to_owned()], false));
    assert_eq!(numbers(state.path()), [2], "what is sent is deleted");
}

#[test]
fn some_lines_of_those_that_were_read_may_be_acknowledged() {
    let state = tempfile::tempdir().unwrap();
    let (mut writer, mut reader) = open(state.path(), 1 << 20).unwrap();
    writer.write(b"a\nbb\nc\n").unwrap();
    let lines = reader.read().unwrap();
    let (_, end) = lines.iter().nth(1).unwrap();
    reader.acknowledge(end).unwrap();
    assert_eq!(texts(&reader.read().unwrap()), ["c"]);
}

#[test]
fn a_full_queue_takes_whole_lines_and_then_none_until_some_are_acknowledged() {
    let state = tempfile::tempdir().unwrap();
    let (mut writer, mut reader) = open(state.path(), 3 << 20).unwrap();
    let line = [vec![b'x'; 100_000], b"\n".to_vec()].concat();
    let mut written = 0;
    let full = loop {
        match writer.write(&line) {
            Ok(bytes) => written += bytes,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    assert!(written as u64 <= 3 << 20 && written as u64 > 2 << 20);
    let mut read = 0;
    while read < written {
        read += take(&mut reader).iter().map(|line| line.len() + 1).sum::<usize>();
    }
    assert_eq!(read, written);
    assert!(reader.read().unwrap().is_empty(), "nothing is left");
    // A segment goes once the next one is read, which may be empty yet.
    assert!(reader.shared.bytes() <= SEGMENT + line.len() as u64);
    assert!(writer.write(&line).is_ok());
}

#[test]
fn half_a_line_of_a_failed_write_is_left_out_and_the_line_comes_whole() {
    let state = tempfile::tempdir().unwrap();
    let (mut writer, mut reader) = open(state.path(), 1 << 20).unwrap();
    writer.write(b"a\n").unwrap();
    // What a full file system leaves of a write, and then an error of it: a file that is open for reading alone.
    let path = writer.shared.segment(1);
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"half").unwrap();
    writer.file = File::open(&path).unwrap();
    assert!(writer.write(b"b\n").is_err());
    assert_eq!(writer.write(b"b\n").unwrap(), 2);
    assert_eq!(take(&mut reader), ["a"]);
    assert_eq!(take(&mut reader), ["b"]);
    assert_eq!(reader.shared.bytes(), 2, "the half line is counted while it is there, and no longer");
}

#[test]
fn a_queue_that_is_deleted_while_it_is_used_goes_on() {
    let state = tempfile::tempdir().unwrap();
    let (mut writer, mut reader) = open(state.path(), 1 << 20).unwrap();
    let line = [vec![b'x'; 200_000], b"\n".to_vec()].concat();
    while writer.write(&line).is_ok() {}
    fs::remove_file(writer.shared.segment(1)).unwrap();
    assert!(reader.read().unwrap().is_empty());
    assert_eq!(writer.write(b"b\n").unwrap(), 2, "what is deleted takes no room");
    assert_eq!(take(&mut reader), ["b"]);
}

#[test]
fn files_of_others_and_a_cursor_beyond_the_end_stop_nothing() {
    let state = tempfile::tempdir().unwrap();
    drop(open(state.path(), 1 << 20).unwrap());
    let folder = state.path().join(FOLDER);
    for name in ["18446744073709551615.ndjson", "x.ndjson", "-1.ndjson"] {
        fs::write(folder.join(name), "no\n").unwrap();
    }
    fs::write(folder.join(CURSOR), "999999 5\n").unwrap();
    let (mut writer, mut reader) = open(state.path(), 1 << 20).unwrap();
    writer.write(b"a\n").unwrap();
    assert_eq!(take(&mut reader), ["a"]);
}

#[test]
fn starts_without_nats_leave_one_empty_segment_and_a_gap_costs_nothing() {
    let state = tempfile::tempdir().unwrap();
    for _ in 0..5 {
        drop(open(state.path(), 1 << 20).unwrap());
    }
    assert_eq!(numbers(state.path()).len(), 1);
    fs::write(state.path().join(FOLDER).join("000000000001.ndjson"), "a\n").unwrap();
    fs::write(state.path().join(FOLDER).join("200000000000.ndjson"), "b\n").unwrap();
    let (_writer, mut reader) = open(state.path(), 1 << 20).unwrap();
    assert_eq!(take(&mut reader), ["a"]);
    assert_eq!(take(&mut reader), ["b"]);
}
