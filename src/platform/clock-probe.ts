// Asks the kernel or the time service whether the wall clock is synchronised, where no mark in the file system says so.
// Node cannot call adjtimex(2), so a program asks for us: seldom, one at a time, and never waited for by anybody.

import { execFile } from 'node:child_process';

/** Runs a program; its output, or undefined when it is not there, fails or takes too long. */
export type RunProgram = (program: string, args: readonly string[]) => Promise<string | undefined>;

const TIMEOUT_MS = 3000;
const OUTPUT_MAX_BYTES = 16_384;
/** STA_UNSYNC of adjtimex(2): the clock is not synchronised. */
const STA_UNSYNC = 0x40;

interface Question {
  readonly program: string;
  readonly args: readonly string[];
  /** Undefined: the output does not say. */
  readonly read: (output: string) => boolean | undefined;
}

const KERNEL_STATUS = /status:\s*(0x[0-9a-f]+|\d+)/i;

function kernelStatus(output: string): boolean | undefined {
  const status = KERNEL_STATUS.exec(output)?.[1];
  return status === undefined ? undefined : (Number(status) & STA_UNSYNC) === 0;
}

/** The first that knows is believed. */
const QUESTIONS: readonly Question[] = [
  {
    // chronyd sets the kernel's flag too, but only with `rtcsync`.
    program: 'chronyc',
    args: ['-n', 'tracking'],
    read: (output) => {
      const leap = /^Leap status\s*:\s*(.+)$/m.exec(output)?.[1];
      return leap === undefined ? undefined : leap.trim() !== 'Not synchronised';
    },
  },
  {
    // What adjtimex(2) says, whoever keeps the clock.
    program: 'timedatectl',
    args: ['show', '--property=NTPSynchronized', '--value'],
    read: (output) => ({ yes: true, no: false })[output.trim()],
  },
  { program: 'adjtimex', args: ['--print'], read: kernelStatus },
  // BusyBox knows no options for it.
  { program: 'adjtimex', args: [], read: kernelStatus },
];

function runProgram(program: string, args: readonly string[]): Promise<string | undefined> {
  return new Promise((resolve) => {
    const options = { timeout: TIMEOUT_MS, killSignal: 'SIGKILL', maxBuffer: OUTPUT_MAX_BYTES } as const;
    // The words of the output are read, so they must not be translated.
    const env = { ...process.env, LC_ALL: 'C' };
    execFile(program, [...args], { ...options, env }, (error, output) => resolve(error === null ? output : undefined));
  });
}

/** Whether the wall clock is synchronised; undefined when nobody can say. Never throws, takes at most some seconds. */
export async function probeSynchronised(run: RunProgram = runProgram): Promise<boolean | undefined> {
  for (const { program, args, read } of QUESTIONS) {
    const output = await run(program, args);
    const answer = output === undefined ? undefined : read(output);
    if (answer !== undefined) return answer;
  }
  return undefined;
}
