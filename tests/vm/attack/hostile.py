"""What a hostile or wrong peer sends to the guard's socket, each as one command that prints one line; and the agent's part.

    agent PATH        registers itself as the agent and passes on to the guard what comes in at PATH, descriptors too
    CASE ARGUMENTS    see the functions below
"""
import array, ctypes, errno, os, socket, sys, threading, time

libc = ctypes.CDLL(None, use_errno=True)

GUARD = "/run/rempart-guard/guard.sock"
STATUS = b'{"v":1,"op":"status"}\n'


def connect(path=GUARD):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(path)
    return peer


def line(peer):
    data = b""
    while not data.endswith(b"\n"):
        more = peer.recv(65536)
        if not more:
            break
        data += more
    return data


def send(peer, data, descriptors=()):
    socket.send_fds(peer, [data], list(descriptors)) if descriptors else peer.sendall(data)


def short(answer):
    return answer.decode(errors="replace").strip()[:300] or "closed"


def protect(unit):
    return b'{"v":1,"op":"protect","unit":"%s","mode":"enforce"}\n' % unit.encode()


def code(what):
    """Code in this process that was not there when it began: anonymous, written before, or from a file."""
    mmap, mprotect = libc.mmap, libc.mprotect
    mmap.restype = ctypes.c_void_p
    mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    read, write, execute, private, anonymous, none = 1, 2, 4, 2, 32, ctypes.c_void_p(-1).value
    if what == "anonymous":
        done = mmap(None, 4096, read | execute, private | anonymous, -1, 0) != none
    elif what == "written":
        done = mprotect(mmap(None, 4096, read | write, private | anonymous, -1, 0), 4096, read | execute) == 0
    else:
        done = mmap(None, 4096, read | execute, private, os.open(what, os.O_RDONLY), 0) != none
    return b"mapped" if done else errno.errorcode[ctypes.get_errno()].encode()


def agent(path):
    own = os.pidfd_open(os.getpid())
    guard = connect()
    send(guard, protect("rempartd.service"), [own])
    print(short(line(guard)), flush=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)

    def serve(peer):
        # The guard closes a connection that says nothing for ten seconds: each peer has one of its own, and a new one when it waited.
        with peer, connect() as to:
            while True:
                data, descriptors, _, _ = socket.recv_fds(peer, 65536, 8)
                if not data:
                    return
                if data.startswith(b"code "):
                    peer.sendall(code(*data.decode().split()[1:]) + b"\n")
                    continue
                send(to, data, descriptors)
                for descriptor in descriptors:
                    os.close(descriptor)
                peer.sendall(line(to))

    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


def ask(path, words):
    """One line to the agent itself."""
    peer = connect(path)
    send(peer, words.encode())
    print(short(line(peer)))


def say(*parts):
    """Sends the bytes, written as Python does it, and prints the answer."""
    peer = connect()
    try:
        peer.sendall(b"".join(eval(part) for part in parts))
    except BrokenPipeError:
        pass
    print(short(line(peer)))


def hang():
    """Half a line, and then nothing: how long until the guard lets go."""
    peer, begun = connect(), time.time()
    peer.sendall(b'{"v":1,"op":')
    line(peer)
    print("let go after %d s" % round(time.time() - begun))


def drip():
    """A byte every two seconds."""
    peer, begun = connect(), time.time()
    try:
        while time.time() - begun < 30:
            peer.sendall(b" ")
            time.sleep(2)
    except OSError:
        pass
    print("let go after %d s" % round(time.time() - begun))


def in_turn(times):
    answered, begun = 0, time.time()
    for _ in range(int(times)):
        with connect() as peer:
            peer.sendall(STATUS)
            answered += b'"enforcing":true' in line(peer)
    print("%d answered" % answered)
    print("%d connections in %.1f s" % (int(times), time.time() - begun), file=sys.stderr)


def hold(count, seconds):
    """Many connections at once, all of which ask nothing."""
    peers = [connect() for _ in range(int(count))]
    turned_away = 0
    for peer in peers:
        peer.settimeout(0.2)
        try:
            turned_away += b"too many" in peer.recv(65536)
        except TimeoutError:
            pass
    print("%d kept, %d told that they are too many" % (len(peers) - turned_away, turned_away), flush=True)
    time.sleep(float(seconds))


def subscribers(count):
    """Subscribes and leaves at once."""
    for _ in range(int(count)):
        with connect() as peer:
            peer.sendall(b'{"v":1,"op":"events"}\n')
    time.sleep(2.5)
    with connect() as peer:
        peer.sendall(STATUS)
        print(short(line(peer)))


def descriptors(count, times):
    """So many descriptors beside a question that wants none, so many times on connections of their own."""
    answered = 0
    for _ in range(int(times)):
        with connect() as peer:
            send(peer, STATUS, [0] * int(count))
            answered += b'"enforcing":true' in line(peer)
    print("%d answered" % answered)


def ahead(path):
    """A living process's pidfd beside a question before the request that lacks one."""
    with connect(path) as peer:
        send(peer, STATUS, [os.pidfd_open(os.getpid())])
        line(peer)
        send(peer, protect("ahead.service"))
        print(short(line(peer)))


def as_unit(path, kind, unit="odd.service"):
    """Asks for protection with a descriptor of the kind."""
    child = os.fork()
    if not child:
        # Who reads our answer waits until the last writer is gone.
        os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
        time.sleep(0 if kind in ("dead", "zombie") else 1000)
        os._exit(0)
    pidfd = os.pidfd_open(child)
    if kind == "null":
        pidfd = os.open("/dev/null", os.O_RDONLY)
    elif kind == "folder":
        pidfd = os.open("/proc/%d" % child, os.O_RDONLY | os.O_DIRECTORY)
    elif kind == "init":
        pidfd = os.pidfd_open(1)
    elif kind == "thread":
        go, tid = threading.Event(), []
        threading.Thread(target=lambda: (tid.append(threading.get_native_id()), go.wait()), daemon=True).start()
        while not tid:
            time.sleep(0.01)
        try:
            pidfd = os.pidfd_open(tid[0], os.O_EXCL)
        except OSError:
            print("refused by this kernel, which has no pidfd of a thread")
            os._exit(0)
    elif kind == "zombie":
        time.sleep(0.5)
    elif kind == "dead":
        os.waitpid(child, 0)
    with connect(path) as peer:
        send(peer, protect(unit), [pidfd, pidfd] if kind == "two" else [pidfd])
        print(short(line(peer)))
    sys.stdout.flush()
    os._exit(0)


def hoard():
    """As a labelled process: children until there is no room for one more. Says how many, and keeps them until its input ends."""
    sys.stdin.readline()
    children = 0
    try:
        while children < 5000:
            if not os.fork():
                time.sleep(1000)
                os._exit(0)
            children += 1
    except OSError as error:
        print("%d children, then %s" % (children, error.strerror), flush=True)
    sys.stdin.readline()
    os.killpg(0, 9)


globals()[sys.argv[1]](*sys.argv[2:])
