"""Asks the agent at both of its sockets without being who it says; a line of two words, what each of them gave.

usage: forge.py outside | nobody | moved UNIT | main UNIT | reborn UNIT PID     in the name of NAME, the first secret of held.service
"""
import ctypes, os, socket, struct, sys, time

NAME = 'unit/held.service/db.pw'


def credential():
    try:
        s = socket.socket(socket.AF_UNIX)
        s.bind('\0%x/%s' % (os.getpid(), NAME))
        s.connect('/run/rempart/credentials.sock')
        s.shutdown(socket.SHUT_WR)
        length = 0
        while piece := s.recv(1 << 16):
            length += len(piece)
            if piece.strip(b'\0'):
                return 'GIVEN'
        return 'refused' if length > 1 << 20 else 'EMPTY'
    except PermissionError:
        return 'no-permission'


def wrapper():
    s = socket.socket(socket.AF_UNIX)
    s.connect('/run/rempart/agent.sock')
    s.send(b'{"v":1,"op":"release"}\n')
    return 'refused' if '"refused"' in s.makefile().readline() else 'GIVEN'


def enter(unit):
    os.makedirs(f'/sys/fs/cgroup/system.slice/{unit}', exist_ok=True)
    with open(f'/sys/fs/cgroup/system.slice/{unit}/cgroup.procs', 'w') as f:
        f.write(str(os.getpid()))


def become_main():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(f'MAINPID={os.getpid()}'.encode(), '/run/systemd/notify')
    time.sleep(1)


def born_as(pid):
    """fork(2) with a chosen number, clone3(2)."""
    wanted = (ctypes.c_int * 1)(pid)
    arguments = struct.pack('11Q', 0, 0, 0, 0, 17, 0, 0, 0, ctypes.addressof(wanted), 1, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    made = libc.syscall(435, arguments, len(arguments))
    if made < 0:
        raise OSError(ctypes.get_errno(), 'clone3')
    return made


def tell(also=''):
    print(credential(), wrapper(), also, flush=True)


what, rest = sys.argv[1], sys.argv[2:]
if what == 'nobody':
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
if what in ('moved', 'main', 'reborn'):
    enter(rest[0])
if what in ('main', 'reborn'):
    if os.getsid(0) != os.getpid():
        if pid := os.fork():
            os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os.setsid()
    become_main()
if what == 'reborn':
    true = int(rest[1])
    try:
        os.kill(true, 9)
    except ProcessLookupError:
        pass
    time.sleep(1)
    if born_as(true):
        os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
    os.setsid()
    assert os.getpid() == true
    become_main()
if what in ('main', 'reborn'):
    # From the process itself, and from a child as systemd does it.
    if not os.fork():
        tell('child'); os._exit(0)
    os.wait()
tell(what)
