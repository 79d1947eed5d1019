# Loads a BPF program that returns the given number, or does something else with bpf(2); prints what came of it. Runs in the guest,
# as `python3 foreign.py` and as a copy of python3 that is listed as a loader.
import ctypes, errno, os, struct, sys, time

libc = ctypes.CDLL(None, use_errno=True)


def ask(command, attributes):
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    return libc.syscall(321, command, buffer, 128), buffer


def bpf(command, attributes):
    answer, _ = ask(command, attributes)
    if answer < 0:
        print(errno.errorcode[ctypes.get_errno()])
        sys.exit(1)
    return answer


def load(number, kind=17):
    code = ctypes.create_string_buffer(struct.pack("<BBhi", 0xB7, 0, 0, number) + struct.pack("<BBhi", 0x95, 0, 0, 0), 16)
    gpl = ctypes.create_string_buffer(b"GPL")
    # BPF_PROG_LOAD, of a BPF_PROG_TYPE_RAW_TRACEPOINT if nothing else is said
    return bpf(5, struct.pack("<IIQQ", kind, 2, ctypes.addressof(code), ctypes.addressof(gpl)))


def about(program):
    return dict(line.split(":\t") for line in open(f"/proc/self/fdinfo/{program}").read().splitlines())


match sys.argv[1:]:
    case ["load", number]:
        program = load(int(number))
        print(about(program)["prog_tag"])
    case ["kprobe", number]:
        # BPF_PROG_TYPE_KPROBE: the tag is that of the same instructions
        print(about(load(int(number), 2))["prog_tag"])
    case ["hold", number]:
        print(about(load(int(number)))["prog_id"], flush=True)
        time.sleep(1000)
    case ["attach", number]:
        name = ctypes.create_string_buffer(b"sched_process_exit")
        # BPF_RAW_TRACEPOINT_OPEN
        bpf(17, struct.pack("<QI", ctypes.addressof(name), load(int(number))))
        print("attached")
    case ["map"]:
        # BPF_MAP_CREATE of a BPF_MAP_TYPE_ARRAY
        bpf(0, struct.pack("<IIII", 2, 4, 4, 1))
        print("created")
    case ["token"]:
        # BPF_TOKEN_CREATE
        bpf(36, struct.pack("<II", 0, os.open("/sys/fs/bpf", os.O_RDONLY)))
        print("created")
    case ["program", number]:
        # BPF_PROG_GET_FD_BY_ID
        bpf(13, struct.pack("<I", int(number)))
        print("opened")
    case ["refused"]:
        # The first of BPF_PROG_GET_NEXT_ID whose descriptor is refused: one of the guard's, before the machine is armed
        number, found = 0, 0
        while not found:
            _, buffer = ask(11, struct.pack("<I", number))
            number = struct.unpack("<II", buffer.raw[:8])[1]
            found = number if ask(13, struct.pack("<I", number))[0] < 0 else 0
        print(found)
    case ["link", number]:
        # BPF_LINK_GET_FD_BY_ID
        bpf(30, struct.pack("<I", int(number)))
        print("opened")
