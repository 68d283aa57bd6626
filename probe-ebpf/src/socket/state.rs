//! `inet_sock_set_state`: a TCP socket changes its state.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use super::{
    TCP_CLOSE, TCP_ESTABLISHED, TCP_LISTEN, TCP_SYN_RECV, TCP_SYN_SENT, connect, error, listen, owner, queue,
};

/// Program for the raw tracepoint `inet_sock_set_state(sock, int oldstate, int newstate)`.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: RawTracePointContext) -> i32 {
    let from = ctx.arg::<u64>(1) as u32;
    let to = ctx.arg::<u64>(2) as u32;
    let socket = ctx.arg::<u64>(0);
    match (from, to) {
        (TCP_CLOSE, TCP_SYN_SENT) => owner::asks(socket),
        (TCP_SYN_SENT, TCP_ESTABLISHED) => connect::connected(socket),
        (TCP_SYN_RECV, TCP_ESTABLISHED) => queue::accepted(socket),
        (TCP_CLOSE, TCP_LISTEN) => listen::changed(&ctx, socket, 1),
        (TCP_LISTEN, TCP_CLOSE) => listen::changed(&ctx, socket, 0),
        (_, TCP_CLOSE) => error::closed(socket, from),
        _ => {}
    }
    0
}
