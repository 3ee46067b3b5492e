"""What a terminal shows after some output, for tests of progress bars."""

import re

PIECE = re.compile(r"\r|\n|\x1b\[A|\x1b\[K|[^\r\n\x1b]+")


def terminal_lines(output: str) -> list[str]:
    """The lines that are not empty, after carriage returns, newlines, the cursor going up and lines cleared."""
    lines, row, column = [""], 0, 0
    for piece in PIECE.findall(output):
        if piece == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif piece == "\r":
            column = 0
        elif piece == "\x1b[A":
            row = max(0, row - 1)
        elif piece == "\x1b[K":
            lines[row] = lines[row][:column]
        else:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + piece + line[column + len(piece) :]
            column += len(piece)
    return [line.rstrip() for line in lines if line.strip()]
