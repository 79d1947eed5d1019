//! librempart_heap.so: loaded into an unmodified service, it puts the service's C heap into secret memory, so that the
//! program's own copies of a secret can be read by nobody else.
//!
//! Must never hand out ordinary memory, and never let a child by fork share the heap: where the kernel refuses, malloc
//! gives null and fork fails. What a program does not ask malloc for is not covered: static variables, stacks, memory that
//! it maps by itself. Known limits: programs that fork by a system call of their own have no heap in the child and end there.

/// fork(3), and what the C library runs around it.
mod fork;
/// malloc(3) and its family.
mod names;
/// Before the first block, and before `main`.
mod start;
