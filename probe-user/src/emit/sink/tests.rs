use std::{io, sync::mpsc};

use super::{
    writer::{PACE, UNPACED},
    *,
};

/// A destination that shows each write to the test and answers as scripted.
struct Scripted {
    seen: mpsc::Sender<Vec<u8>>,
    answers: mpsc::Receiver<io::Result<usize>>,
}

impl Destination for Scripted {
    fn name(&self) -> String {
        "scripted".to_owned()
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let _ = self.seen.send(lines.to_vec());
        match self.answers.recv() {
            Ok(Ok(taken)) => Ok(taken.min(lines.len())),
            Ok(Err(error)) => Err(error),
            // The test is over.
            Err(mpsc::RecvError) => Ok(lines.len()),
        }
    }
}

type Script = (Sink, mpsc::Receiver<Vec<u8>>, mpsc::Sender<io::Result<usize>>);

fn scripted(limits: QueueLimits) -> Script {
    let (seen, written) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    (Sink::spawn(Scripted { seen, answers }, limits).unwrap(), written, answer)
}

const PATIENCE: Duration = Duration::from_secs(20);
const ALL: usize = usize::MAX;

#[test]
fn waiting_lines_are_written_together() {
    let (sink, written, answer) = scripted(QueueLimits::default());
    sink.push(b"1\n");
    assert_eq!(written.recv().unwrap(), b"1\n", "a single line is written at once");
    sink.push(b"2\n");
    sink.push(b"3\n");
    answer.send(Ok(ALL)).unwrap();
    assert_eq!(written.recv().unwrap(), b"2\n3\n");
    answer.send(Ok(2)).unwrap();
    assert_eq!(written.recv().unwrap(), b"3\n", "the rest of a partial write follows");
    answer.send(Ok(ALL)).unwrap();
    assert_eq!(sink.shutdown(PATIENCE), 0);
}

#[test]
fn unflushed_lines_wait_for_a_flush_or_another_line_or_their_bytes() {
    let (sink, written, answer) = scripted(QueueLimits::default());
    let next = |count: usize| {
        let lines = written.recv().unwrap();
        answer.send(Ok(ALL)).unwrap();
        assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), count, "{}", lines.len());
    };
    sink.push_unflushed(b"1\n");
    sink.push_unflushed(b"2\n");
    sink.flush();
    next(2);
    sink.flush();
    sink.push_unflushed(b"3\n");
    sink.push(b"4\n");
    next(2);
    let half = [&[b'x'; UNFLUSHED / 2][..], b"\n"].concat();
    sink.push_unflushed(&half);
    sink.push_unflushed(&half);
    next(2);
    sink.push_unflushed(b"5\n");
    drop(answer);
    assert_eq!(sink.shutdown(PATIENCE), 0);
    assert_eq!(written.recv().unwrap(), b"5\n", "the end flushes too");
}

#[test]
fn in_a_storm_lines_are_written_at_a_pace_and_the_end_does_not_wait() {
    let began = Instant::now();
    let (sink, written, answer) = scripted(QueueLimits::default());
    drop(answer);
    let paced = 32;
    for _ in 0..UNPACED + paced {
        sink.push(b"x\n");
        assert_eq!(written.recv().unwrap(), b"x\n");
    }
    assert!(began.elapsed() >= PACE * paced, "{:?}", began.elapsed());
    sink.push(b"1\n");
    sink.push(b"2\n");
    assert_eq!(sink.shutdown(PATIENCE), 0);
    assert_eq!(written.into_iter().flatten().collect::<Vec<_>>(), b"1\n2\n");
}

#[test]
fn a_full_queue_loses_lines_and_counts_them() {
    let (sink, written, answer) = scripted(QueueLimits { lines: 2, bytes: 1 << 20 });
    sink.push(b"1\n");
    written.recv().unwrap();
    sink.push(b"2\n");
    sink.push(b"3\n");
    sink.push(b"4\n");
    assert_eq!(sink.lost(), 2);
    assert_eq!(sink.take_loss(), Loss::default(), "there is no room yet for the report");
    answer.send(Ok(ALL)).unwrap();
    assert_eq!(written.recv().unwrap(), b"2\n", "the writer has taken the whole queue");
    assert_eq!(sink.take_loss(), Loss { usual: 2, essential: 0 });
    assert_eq!(sink.take_loss(), Loss::default(), "a loss is reported once");
    drop(answer);
    assert_eq!(sink.shutdown(PATIENCE), 2);
}

#[test]
fn the_queue_is_bounded_in_bytes_too() {
    let (sink, written, answer) = scripted(QueueLimits { lines: 100, bytes: 8 });
    sink.push(b"12345\n");
    written.recv().unwrap();
    sink.push(b"12\n");
    assert_eq!(sink.lost(), 1);
    sink.push(b"1\n");
    drop(answer);
    assert_eq!(sink.shutdown(PATIENCE), 1);
}

#[test]
fn a_failed_write_is_tried_again_until_it_succeeds() {
    let (sink, written, answer) = scripted(QueueLimits::default());
    sink.push(b"1\n");
    for _ in 0..3 {
        assert_eq!(written.recv().unwrap(), b"1\n");
        answer.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
    }
    assert_eq!(written.recv().unwrap(), b"1\n");
    answer.send(Ok(ALL)).unwrap();
    assert_eq!(sink.shutdown(PATIENCE), 0);
}

#[test]
fn a_closed_reader_loses_the_events_and_nothing_else() {
    let (sink, written, answer) = scripted(QueueLimits::default());
    sink.push(b"1\n");
    written.recv().unwrap();
    sink.push(b"2\n");
    answer.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
    assert_eq!(sink.shutdown(PATIENCE), 2);
}

#[test]
fn shutdown_does_not_exceed_its_time_limit() {
    let (sink, written, _answer) = scripted(QueueLimits::default());
    sink.push(b"1\n");
    written.recv().unwrap();
    sink.push(b"2\n");
    assert_eq!(sink.shutdown(Duration::from_millis(1)), 2, "the writer is stuck");
}

#[test]
fn essential_lines_are_the_last_to_be_lost_and_keep_their_order() {
    let (sink, written, answer) = scripted(QueueLimits { lines: 2, bytes: 1 << 20 });
    sink.push(b"1\n");
    written.recv().unwrap();
    sink.push(b"2\n");
    sink.push(b"lost\n");
    sink.push_essential(b"incident\n");
    sink.push(b"lost\n");
    sink.push_essential(b"restart\n");
    for _ in 2..ESSENTIAL.lines {
        sink.push_essential(b"x\n");
    }
    sink.push_essential(b"lost\n");
    answer.send(Ok(ALL)).unwrap();
    let lines = written.recv().unwrap();
    assert!(lines.starts_with(b"2\nincident\nrestart\nx\n"), "{:?}", String::from_utf8_lossy(&lines));
    answer.send(Ok(ALL)).unwrap();
    drop(answer);
    while sink.waiting() > 0 {
        std::thread::yield_now();
    }
    assert_eq!(sink.take_loss(), Loss { usual: 2, essential: 1 });
    assert_eq!(sink.shutdown(PATIENCE), 3);
}
