//! Waits for SIGUSR1, and then crashes: it reads address 16, aborts, or panics.

mod shop {
    pub struct Basket(pub *const u64);

    impl Basket {
        #[inline(never)]
        pub fn first(&self) -> u64 {
            // SAFETY: none: it is meant to crash.
            unsafe { *std::hint::black_box(self.0.add(2)) }
        }

        #[inline(never)]
        pub fn take(&self) -> u64 {
            panic!("the basket at {:?} is empty", std::hint::black_box(self.0));
        }
    }
}

unsafe extern "C" {
    fn sigemptyset(set: *mut [u64; 16]) -> i32;
    fn sigaddset(set: *mut [u64; 16], number: i32) -> i32;
    fn sigprocmask(how: i32, set: *const [u64; 16], old: *mut [u64; 16]) -> i32;
    fn sigwait(set: *const [u64; 16], number: *mut i32) -> i32;
}

const SIGUSR1: i32 = 10;

fn main() {
    let (mut set, mut number) = ([0; 16], 0);
    // SAFETY: a signal set of glibc has 128 bytes.
    unsafe {
        sigemptyset(&mut set);
        sigaddset(&mut set, SIGUSR1);
        sigprocmask(0, &set, std::ptr::null_mut());
        sigwait(&set, &mut number);
    }
    let basket = shop::Basket(std::hint::black_box(std::ptr::null()));
    match std::env::args().nth(1).as_deref() {
        Some("abort") => std::process::abort(),
        Some("panic") => println!("{}", basket.take()),
        _ => println!("{}", basket.first()),
    }
}
