// A pseudo-terminal without native code: a program that has one makes it and passes its bytes through. It ends when its
// input does, and so with us, however we end.

import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { lstatSync, unlinkSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

export interface PseudoTerminal {
  write(text: string): void;
}

export interface PseudoTerminalOptions {
  /** Link to make to the terminal; one that was left behind is replaced. */
  readonly path: string;
  readonly onText: (text: string) => void;
  /** The link is there. */
  readonly onOpen: () => void;
  /** Once: there is no terminal, or none any more, for that reason. */
  readonly onEnd: (reason: string) => void;
}

const PYTHON = `
import os, pty, select, sys, tty
master, slave = pty.openpty()
tty.setraw(slave)
os.symlink(os.ttyname(slave), sys.argv[1])
try:
    while True:
        ready, _, _ = select.select([0, master], [], [])
        if 0 in ready:
            data = os.read(0, 4096)
            if not data:
                break
            os.write(master, data)
        if master in ready:
            os.write(1, os.read(master, 4096))
finally:
    os.unlink(sys.argv[1])
`;

type Program = ChildProcessByStdio<Writable, Readable, null>;

/** Between two looks for the link. */
const LOOK_EVERY_MS = 50;

/** Makes it with socat, or with python3 where there is no socat. */
export function openPseudoTerminal(options: PseudoTerminalOptions): PseudoTerminal {
  const { path, onText, onOpen, onEnd } = options;
  const programs: readonly (readonly [string, readonly string[]])[] = [
    ['socat', [`PTY,link=${path},rawer`, 'STDIO']],
    ['python3', ['-c', PYTHON, path]],
  ];
  let current: Program | undefined;

  function start(index: number): void {
    const [command, args] = programs[index] ?? [];
    if (command === undefined || args === undefined) {
      onEnd('neither socat nor python3 is installed; apt-get install socat');
      return;
    }
    removeLink(path);
    const program = spawn(command, [...args], { stdio: ['pipe', 'pipe', 'ignore'] });
    current = program;
    let isOver = false;
    const over = (next: () => void): void => {
      if (isOver) return;
      isOver = true;
      next();
    };
    program.on('error', () => over(() => start(index + 1)));
    program.on('exit', (code, signal) =>
      over(() => onEnd(`${command} ended with ${signal ?? `exit code ${code}`} (${path})`)),
    );
    program.stdin.on('error', () => {});
    program.stdout.on('data', (bytes: Buffer) => onText(bytes.toString('latin1')));
    void (async () => {
      while (!isOver && !isLink(path)) await sleep(LOOK_EVERY_MS);
      if (!isOver) onOpen();
    })();
  }

  start(0);
  return { write: (text) => void current?.stdin.write(text, 'latin1') };
}

function removeLink(path: string): void {
  if (isLink(path)) unlinkSync(path);
}

function isLink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
}
