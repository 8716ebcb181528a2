// `npm run bench [-- NAMES…] [--quick | --full] [--record]`: every *.bench.ts in a process of its own, one after the other;
// one table, and the same as JSON in test/.work/bench.json. Ends with 1 when a bar is missed or a bench fails.

import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startChild } from '../support/child.ts';
import { isMet, type BenchContext, type BenchRow } from './bench.ts';
import { calibrate } from './calibration.ts';
import { RUNTIME_ENVIRONMENT, RUNTIME_FLAGS } from './daemon.ts';
import { describeMachine } from './machine.ts';
import { recordResults, renderMachine, renderTable, type BenchResults } from './results.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const WORK = join(ROOT, 'test', '.work');
const RESULTS = join(WORK, 'bench.json');
const LAUNCHER = join('src', 'fieldpost.sh');
const SUFFIX = '.bench.ts';
/** The hour of the trickle, and time to spare. */
const FILE_TIMEOUT_MS = 2 * 3_600_000;

/** The command line cannot be carried out as it stands. */
class UsageError extends Error {}

function isUsageError(error: unknown): error is Error {
  return error instanceof UsageError || (error instanceof TypeError && 'code' in error && isParseCode(error.code));
}

function isParseCode(code: unknown): boolean {
  return typeof code === 'string' && code.startsWith('ERR_PARSE_ARGS_');
}

function benchNames(wanted: readonly string[]): string[] {
  const all = readdirSync(import.meta.dirname)
    .filter((file) => file.endsWith(SUFFIX))
    .map((file) => file.slice(0, -SUFFIX.length))
    .sort();
  const unknown = wanted.filter((name) => !all.includes(name));
  if (unknown.length > 0) throw new UsageError(`There is no bench ${unknown.join(', ')}; there are ${all.join(', ')}.`);
  return wanted.length === 0 ? all : all.filter((name) => wanted.includes(name));
}

/** Builds the daemon and copies it beside the results: `dist/` may be built anew while the benches run. */
async function buildDaemon(): Promise<string> {
  const code = await new Promise<number>((resolve, reject) => {
    const child = spawn(process.execPath, [join(ROOT, 'image', 'build.ts')], { cwd: ROOT, stdio: 'inherit' });
    child.on('error', reject);
    child.on('close', (exitCode) => resolve(exitCode ?? 1));
  });
  if (code !== 0) throw new Error('The daemon could not be built.');
  const copy = mkdtempSync(join(WORK, 'bench-daemon-'));
  cpSync(join(ROOT, 'dist'), join(copy, 'dist'), { recursive: true });
  cpSync(join(ROOT, 'package.json'), join(copy, 'package.json'));
  cpSync(join(ROOT, LAUNCHER), join(copy, LAUNCHER));
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
  return copy;
}

type Report = { readonly rows: readonly BenchRow[] } | { readonly progress: string };

function isRows(report: unknown): report is { readonly rows: readonly BenchRow[] } {
  return typeof report === 'object' && report !== null && 'rows' in report;
}

/** Never rejects: a bench that fails is a row that says so. */
async function runBench(
  name: string,
  context: Omit<BenchContext, 'progress' | 'directory'>,
): Promise<readonly BenchRow[]> {
  const directory = mkdtempSync(join(tmpdir(), `fieldpost-bench-${name}-`));
  const child = startChild(join(import.meta.dirname, 'child.ts'), {
    args: [join(import.meta.dirname, `${name}${SUFFIX}`), JSON.stringify({ ...context, directory })],
    execArgv: RUNTIME_FLAGS,
    env: RUNTIME_ENVIRONMENT,
    onReport: (report) => {
      if ('progress' in (report as Report))
        process.stderr.write(`  ${name}: ${(report as { progress: string }).progress}\n`);
    },
  });
  try {
    return (await child.next(isRows, FILE_TIMEOUT_MS)).rows;
  } catch (error) {
    process.stderr.write(`${name} failed: ${error instanceof Error ? error.message : String(error)}\n`);
    return [
      {
        what: `${name} (failed: see its output)`,
        measured: '',
        value: Number.NaN,
        unit: '×',
        bar: { kind: 'at_least', value: 0 },
      },
    ];
  } finally {
    child.send({});
    await child.kill(child.running ? 'SIGTERM' : 'SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  }
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { quick: { type: 'boolean' }, full: { type: 'boolean' }, record: { type: 'boolean' } },
  });
  const names = benchNames(positionals);
  if (values.record === true && positionals.length > 0)
    throw new UsageError('Only a run of all benches can be recorded.');
  mkdirSync(WORK, { recursive: true });
  const copy = await buildDaemon();
  try {
    const context = {
      quick: values.quick === true,
      full: values.full === true,
      daemon: join(copy, LAUNCHER),
    };
    const machine = await describeMachine(ROOT, tmpdir());
    const before = calibrate();
    const rows: BenchRow[] = [];
    for (const name of names) {
      process.stderr.write(`${name}\n`);
      const measured = await runBench(name, context);
      rows.push(...measured);
      for (const { what, value, unit } of measured) process.stderr.write(`  ${value.toFixed(2)} ${unit}  ${what}\n`);
    }
    const results: BenchResults = {
      machine,
      mode: context.quick ? 'quick' : context.full ? 'full' : 'normal',
      calibration: { before, after: calibrate() },
      rows: rows.map((row) => ({ ...row, met: isMet(row) })),
    };
    writeFileSync(RESULTS, `${JSON.stringify(results, undefined, 2)}\n`);
    process.stdout.write(`${renderMachine(results)}\n\n${renderTable(results.rows)}\n`);
    if (values.record === true) recordResults(join(import.meta.dirname, 'RESULTS.md'), results);
    return rows.some((row) => isMet(row) === false) ? 1 : 0;
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!isUsageError(error)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 2;
}
