"""A name server in a named network namespace, over UDP and TCP."""
import socket
import struct
import threading

from harness.netns import socket_in


class NameServer:
    """Answers every query with one IPv4 address, and counts them. names: only for these, by name; others
    do not exist."""

    def __init__(self, netns, port=53, address="192.0.2.1", names=None):
        self.address, self.names = address, names
        self.asked = 0
        self.sockets = []
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            s = socket_in(netns, socket.AF_INET6, kind)
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("::", port))
            self.sockets.append(s)
        self.sockets[1].listen(64)
        threading.Thread(target=self.udp, args=(self.sockets[0],), daemon=True).start()
        threading.Thread(target=self.tcp, args=(self.sockets[1],), daemon=True).start()

    def address_of(self, question):
        """None: no such name. question: the name in DNS's form, without its end."""
        if self.names is None:
            return self.address
        labels = []
        while question:
            labels.append(question[1:question[0] + 1].decode("ascii", "replace").lower())
            question = question[question[0] + 1:]
        return self.names.get(".".join(labels))

    def answer(self, query):
        self.asked += 1
        end = query.index(b"\0", 12) + 5
        address = self.address_of(query[12:end - 5])
        if not address:
            return query[:2] + struct.pack("!5H", 0x8183, 1, 0, 0, 0) + query[12:end]
        if query[end - 3] != 1:     # not an IPv4 address that is asked for
            return query[:2] + struct.pack("!5H", 0x8180, 1, 0, 0, 0) + query[12:end]
        return (query[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0) + query[12:end] +
                b"\xc0\x0c" + struct.pack("!2HIH", *struct.unpack("!2H", query[end - 4:end]), 0, 4) +
                socket.inet_aton(address))

    def udp(self, s):
        while True:
            try:
                query, sender = s.recvfrom(4096)
                s.sendto(self.answer(query), sender)
            except (ValueError, IndexError, struct.error):
                pass        # no query
            except OSError:
                return

    def tcp(self, s):
        while True:
            try:
                c, _ = s.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        with c:
            try:
                while head := c.recv(2, socket.MSG_WAITALL):
                    query = c.recv(struct.unpack("!H", head)[0], socket.MSG_WAITALL)
                    a = self.answer(query)
                    c.sendall(struct.pack("!H", len(a)) + a)
            except OSError:
                pass

    def close(self):
        for s in self.sockets:
            s.shutdown(socket.SHUT_RDWR) if s.type == socket.SOCK_STREAM else None
            s.close()
