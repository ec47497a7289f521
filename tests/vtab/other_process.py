"""Another process with a connection: `Other(path)` starts it, `other(sql)` runs SQL there and returns its rows, or raises OtherError."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import lsmsql

OPTIONS = lsmsql.Options(background=False, lock_timeout=0.2)


class OtherError(Exception):
    pass


class Other:
    """options: keyword arguments of lsmsql.connect."""

    def __init__(self, path: str, **options: Any) -> None:
        command = [sys.executable, "-m", __name__, path, json.dumps(options)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "LSMSQL_READ_ONLY": ""})

    def __call__(self, sql: str) -> list[list[Any]]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(sql) + "\n")
        self.process.stdin.flush()
        error, rows = json.loads(self.process.stdout.readline())
        if error:
            raise OtherError(error)
        return rows  # type: ignore[no-any-return]

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def main(path: str, options: str) -> None:
    connection = lsmsql.connect(path, options=OPTIONS, **json.loads(options))
    for line in sys.stdin:
        try:
            answer = "", connection.execute(json.loads(line)).fetchall()
        except Exception as error:
            answer = f"{type(error).__name__}: {error}", []
        print(json.dumps(answer), flush=True)
    connection.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
