// `npm test` and `npm run test:full`: every gate in order, cheapest first, and one closing line with the sum. A gate that
// fails does not hide the later ones; one that cannot run counts as failed, never as skipped.

import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '..');
const WORK = join(ROOT, 'test', '.work');
const FULL = process.argv.includes('--full');
const CRASH_ROUNDS = FULL ? 200 : 20;
const POWER_ROUNDS = FULL ? 200 : 10;

interface Counts {
  passed: number;
  failed: number;
}

interface Gate {
  readonly name: string;
  readonly command: readonly string[];
  /** Vitest's JSON report, when the gate has many tests; else the gate counts as one. */
  readonly report?: string;
}

function vitest(project: string): Gate {
  const report = join(WORK, `${project}.json`);
  return {
    name: project,
    command: [
      'vitest',
      'run',
      '--config',
      'test/vitest.config.ts',
      '--project',
      project,
      '--reporter',
      'default',
      '--reporter',
      'json',
      '--outputFile.json',
      report,
    ],
    report,
  };
}

const GATES: readonly Gate[] = [
  { name: 'format', command: ['prettier', '--check', '--log-level', 'warn', '.'] },
  { name: 'lint', command: ['oxlint', '--type-aware', '--deny-warnings'] },
  { name: 'types', command: ['tsc', '-p', '.'] },
  { name: 'dead code', command: ['knip'] },
  vitest('fast'),
  { name: 'build', command: ['node', 'image/build.ts'] },
  { name: 'setup', command: ['sh', 'test/setup.sh'] },
  vitest('integration'),
  vitest('e2e'),
  { name: 'crash', command: ['node', 'test/crash/run.ts', '--rounds', String(CRASH_ROUNDS)] },
  { name: 'power cut', command: ['node', 'test/power/run.ts', '--rounds', String(POWER_ROUNDS)] },
];

function run(command: readonly string[]): Promise<number> {
  const [program = '', ...args] = command;
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      cwd: ROOT,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, ...(FULL ? { FIELDPOST_FULL: '1' } : {}) },
    });
    child.on('error', (error) => {
      process.stderr.write(`${program}: ${error.message}\n`);
      resolve(127);
    });
    child.on('close', (code) => resolve(code ?? 1));
  });
}

function readReport(path: string, exitCode: number): Counts {
  if (!existsSync(path)) return { passed: 0, failed: 1 };
  const report = JSON.parse(readFileSync(path, 'utf8')) as {
    numPassedTests: number;
    numFailedTests: number;
    numTotalTests: number;
  };
  // A file that does not load, or an unhandled rejection, fails the run without failing a test.
  const failed = report.numFailedTests > 0 ? report.numFailedTests : exitCode === 0 && report.numTotalTests > 0 ? 0 : 1;
  return { passed: report.numPassedTests, failed };
}

async function main(): Promise<number> {
  mkdirSync(WORK, { recursive: true });
  const sum: Counts = { passed: 0, failed: 0 };
  const lines: string[] = [];
  for (const gate of GATES) {
    process.stdout.write(`\n== ${gate.name}\n`);
    if (gate.report !== undefined) rmSync(gate.report, { force: true });
    const startedAt = performance.now();
    const exitCode = await run(gate.command);
    const counts =
      gate.report === undefined
        ? { passed: exitCode === 0 ? 1 : 0, failed: exitCode === 0 ? 0 : 1 }
        : readReport(gate.report, exitCode);
    sum.passed += counts.passed;
    sum.failed += counts.failed;
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(0).padStart(4);
    lines.push(
      `${gate.name.padEnd(12)} ${String(counts.passed).padStart(5)} passed ${String(counts.failed).padStart(4)} failed ${seconds} s`,
    );
  }
  process.stdout.write(`\n${lines.join('\n')}\n\n${sum.passed} passed, ${sum.failed} failed\n`);
  return sum.failed === 0 ? 0 : 1;
}

process.exitCode = await main();
