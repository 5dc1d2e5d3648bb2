"""Ports to listen at. Not above 32767: there the kernel takes those for outgoing connections, of which other tests make many,
and a server that comes to one of them finds it in use."""
import random
import socket


def free_port():
    """One that nobody has now, on any address of ours."""
    for port in random.sample(range(20000, 32768), 100):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("", port))
                return port
            except OSError:
                pass
    raise RuntimeError("none of a hundred ports is free")
