"""Is it ready? One short question in each server's own protocol, with a time limit, and no client library."""

import http.client
import socket
import struct

SECONDS = 2.0


def tcp_answers(port: int) -> bool:
    """Say whether somebody accepts connections."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=SECONDS).close()
    except OSError:
        return False
    return True


def http_status(port: int, path: str) -> int:
    """Return the HTTP status of a GET, or 0 when nobody answers in time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def _read_exactly(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        part = connection.recv(count - len(received))
        if not part:
            raise ConnectionError("The other side closed the connection.")
        received += part
    return received


def postgres_accepts(port: int) -> bool:
    """Say whether PostgreSQL asks for a password, which it does only when it would take queries."""
    body = struct.pack("!i", 196608) + b"user\0postgres\0database\0postgres\0\0"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
            connection.sendall(struct.pack("!i", len(body) + 4) + body)
            kind = _read_exactly(connection, 1)
            (length,) = struct.unpack("!i", _read_exactly(connection, 4))
            _read_exactly(connection, length - 4)  # an unread answer resets the connection, which is logged as an error
            return kind == b"R"
    except OSError:
        return False


def kafka_accepts(port: int) -> bool:
    """Say whether the broker answers ApiVersions, which it does only after it registered and was unfenced."""
    body = struct.pack("!hhih", 18, 0, 1, -1)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
            connection.sendall(struct.pack("!i", len(body)) + body)
            _, correlation, error = struct.unpack("!iih", _read_exactly(connection, 10))
    except OSError:
        return False
    return (int(correlation), int(error)) == (1, 0)
