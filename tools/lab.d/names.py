#!/usr/bin/python3 -B
"""A lab's name server: names.py ADDRESS FILE answers on ADDRESS, UDP port 53, by a FILE of the form of /etc/hosts."""
import socket
import struct
import sys


def table(path):
    with open(path, encoding="ascii") as f:
        return {name: address for address, *names in map(str.split, f) for name in names}


def answer(query, names):
    """IPv4 alone: whoever asks for another kind learns that the name has none."""
    end = query.index(b"\0", 12) + 5
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode("ascii", "replace").lower())
        at += query[at] + 1
    address = names.get(".".join(labels))
    kind, = struct.unpack("!H", query[end - 4:end - 2])
    found = address is not None and kind == 1
    head = query[:2] + struct.pack("!5H", 0x8180 if address else 0x8183, 1, found, 0, 0) + query[12:end]
    return head + struct.pack("!3HIH", 0xc00c, 1, 1, 0, 4) + socket.inet_aton(address) if found else head


def main():
    names = table(sys.argv[2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind((sys.argv[1], 53))
        while True:
            query, sender = s.recvfrom(512)
            try:
                s.sendto(answer(query, names), sender)
            except (ValueError, IndexError, struct.error, OSError):
                pass    # no query, or nobody there


if __name__ == "__main__":
    main()
