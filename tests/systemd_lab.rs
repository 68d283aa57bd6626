//! x
#[test]
fn boots() {
    let t=std::time::Instant::now();
    let lab = hostprobe_tests::systemd::SystemdLab::boot().unwrap();
    println!("{:?} {:?} {}", t.elapsed(), lab, lab.systemctl(&["list-units","--no-pager"]).unwrap());
    let t=std::time::Instant::now();
    drop(lab);
    println!("{:?}", t.elapsed());
}
