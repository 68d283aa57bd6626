//! `inet_sock_set_state`: a TCP socket changed its state.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use super::{
    connect, error, listen, owners, queue,
    sock::{TCP_CLOSE, TCP_ESTABLISHED, TCP_LISTEN, TCP_SYN_RECV, TCP_SYN_SENT},
};

/// Program for the raw tracepoint `inet_sock_set_state(sock, int oldstate, int newstate)`.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
#[inline(always)]
pub fn inet_sock_set_state(ctx: RawTracePointContext) -> i32 {
    let from = ctx.arg::<u64>(1) as u32;
    let to = ctx.arg::<u64>(2) as u32;
    let socket = ctx.arg::<u64>(0);
    match (from, to) {
        (TCP_CLOSE, TCP_SYN_SENT) => owners::on_connecting(socket),
        (TCP_SYN_SENT, TCP_ESTABLISHED) => connect::on_connected(socket),
        (TCP_SYN_RECV, TCP_ESTABLISHED) => queue::on_established(socket),
        (TCP_CLOSE, TCP_LISTEN) => listen::on_change(&ctx, socket, 1),
        (TCP_LISTEN, TCP_CLOSE) => listen::on_change(&ctx, socket, 0),
        (_, TCP_CLOSE) => error::on_close(socket, from),
        _ => {}
    }
    0
}
