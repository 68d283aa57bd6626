//! The record of a crash.

use std::mem::{offset_of, size_of};

use probe_abi as abi;

use super::bytes::{Bytes, DecodeError, nonzero};
use crate::{
    sensor::record::{CrashMemory, CrashStack, Registers, StackFrame},
    stacks::{self, StackCopy},
};

pub fn stack(bytes: &Bytes<'_>) -> Result<CrashStack, DecodeError> {
    let instruction = bytes.u64(offset_of!(abi::Crash, instruction))?;
    let stack_pointer = bytes.u64(offset_of!(abi::Crash, stack_pointer))?;
    let return_address = nonzero(bytes.u64(offset_of!(abi::Crash, return_address))?);
    let registers = Registers { instruction, stack_pointer, return_address };
    // Negative where the kernel took no stack.
    let used = u32::try_from(bytes.i32(offset_of!(abi::Crash, stack_bytes))?).unwrap_or_default();
    let room = size_of::<[abi::StackFrame; abi::FRAMES_MAX]>();
    let used = bytes.buffer(offset_of!(abi::Crash, frames), room, used)?;
    let frames = used.chunks_exact(size_of::<abi::StackFrame>()).map(|it| frame(&Bytes(it)));
    Ok(CrashStack {
        address: bytes.u64(offset_of!(abi::Crash, address))?,
        fault_code: bytes.u64(offset_of!(abi::Crash, fault_code))?,
        trap: bytes.u64(offset_of!(abi::Crash, trap))?,
        thread_name: bytes.comm(offset_of!(abi::Crash, signal) + offset_of!(abi::SentSignal, sender_comm))?,
        registers: (stack_pointer != 0).then_some(registers),
        frames: frames.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect(),
    })
}

pub fn memory(bytes: &Bytes<'_>) -> Result<CrashMemory, DecodeError> {
    let length = bytes.u32(offset_of!(abi::CrashMemory, length))?;
    let used = bytes.buffer(offset_of!(abi::CrashMemory, bytes), abi::CRASH_MEMORY_LEN, length)?;
    let registers = stacks::Registers {
        program_counter: bytes.u64(offset_of!(abi::CrashMemory, instruction))?,
        stack_pointer: bytes.u64(offset_of!(abi::CrashMemory, stack_pointer))?,
        frame_pointer: bytes.u64(offset_of!(abi::CrashMemory, frame_pointer))?,
        link: bytes.u64(offset_of!(abi::CrashMemory, link))?,
    };
    Ok(CrashMemory {
        at_ns: bytes.u64(offset_of!(abi::Header, at_ns))?,
        pid: bytes.u32(offset_of!(abi::CrashMemory, tgid))?,
        stack: StackCopy { registers, bytes: used.to_vec() },
    })
}

/// None for a frame that the kernel left empty.
fn frame(bytes: &Bytes<'_>) -> Result<Option<StackFrame>, DecodeError> {
    let place = bytes.u64(offset_of!(abi::StackFrame, place))?;
    Ok(match bytes.i32(offset_of!(abi::StackFrame, status))? {
        abi::FRAME_BUILD_ID => {
            let build_id = bytes.array(offset_of!(abi::StackFrame, build_id))?;
            Some(StackFrame::File { build_id, offset: place })
        }
        abi::FRAME_ADDRESS => Some(StackFrame::Address(place)),
        _ => None,
    })
}
