// One outbox through many lives: loaded, killed at a random moment, opened again, now and then drained and audited.

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startChild } from '../support/child.ts';
import { Ledger } from './ledger.ts';
import { seededRandom, type LoadReport, type LoadSettings } from './load-protocol.ts';

const CHILD = join(import.meta.dirname, 'load-child.ts');
/** A drain and an audit after so many kills. */
const LIVES_BETWEEN_DRAINS = 5;
const DRAIN_TIMEOUT_MS = 120_000;

/** What surrounds one life; a power cut replaces the directory after it. */
export interface Life {
  readonly directory: string;
  readonly env: Readonly<Record<string, string>>;
  /** After the kill. */
  end(): void;
}

export interface LivesOptions {
  readonly rounds: number;
  readonly seed: number;
  readonly dropSync?: boolean;
  /** Called for each life; `drains` is the calm one that is not killed. */
  readonly begin: (drains: boolean) => Life;
  readonly onProgress?: (line: string) => void;
}

/** Plays all rounds and returns the books; ends early once there are faults, because the first ones say most. */
export async function playLives(options: LivesOptions): Promise<Ledger> {
  const ledger = new Ledger();
  const random = seededRandom(options.seed);
  for (let round = 1; round <= options.rounds; round += 1) {
    await loadAndKill(options, ledger, random);
    if (round % LIVES_BETWEEN_DRAINS === 0 || round === options.rounds || ledger.faults.length > 0) {
      await drainAndAudit(options, ledger);
      const { acknowledged, delivered, again, evicted, lost } = ledger.totals;
      options.onProgress?.(
        `round ${round}: ${acknowledged} acknowledged, ${delivered} out, ${again} again, ${evicted} evicted, lost ${lost}`,
      );
    }
    if (ledger.faults.length > 0) break;
  }
  return ledger;
}

function start(options: LivesOptions, ledger: Ledger, life: Life, mode: LoadSettings['mode'], seed: number) {
  const settings: LoadSettings = {
    directory: life.directory,
    mode,
    seed,
    firstNumber: ledger.nextNumber,
    evicts: seed % 3 === 0,
    dropSync: options.dropSync === true,
  };
  const seen = new Set<string>();
  const child = startChild(CHILD, {
    args: [JSON.stringify(settings)],
    env: life.env,
    onReport: (report) => {
      const line = report as LoadReport;
      seen.add(line[0]);
      ledger.read(line);
    },
  });
  return { child, seen };
}

async function loadAndKill(options: LivesOptions, ledger: Ledger, random: () => number): Promise<void> {
  const life = options.begin(false);
  const { child, seen } = start(options, ledger, life, 'load', Math.floor(random() * 1e9));
  // Mostly under load, now and then while it opens.
  const opening = random() < 0.15;
  const waitMs = opening ? 100 + random() * 300 : 20 + random() * 1200;
  const startedAtMs = performance.now();
  while (child.running && !opening && !seen.has('opened') && performance.now() - startedAtMs < 60_000) await sleep(5);
  await Promise.race([sleep(waitMs), child.exited]);
  const died = !child.running;
  const killedAtMs = Date.now();
  await child.kill();
  life.end();
  ledger.endLife(killedAtMs);
  if (died) throw new Error(`The child ended by itself. ${child.errorOutput()}`);
}

async function drainAndAudit(options: LivesOptions, ledger: Ledger): Promise<void> {
  const life = options.begin(true);
  const { child, seen } = start(options, ledger, life, 'drain', 1);
  const timeout = new AbortController();
  await Promise.race([child.exited, sleep(DRAIN_TIMEOUT_MS, undefined, { signal: timeout.signal }).catch(() => {})]);
  timeout.abort();
  const { code } = await child.kill();
  if (code !== 0 || !seen.has('closed')) throw new Error(`The drain did not end: exit ${code}. ${child.errorOutput()}`);
  life.end();
  ledger.endDrain();
  ledger.endLife(Date.now());
}

/** Prints the result the way both tests do; returns the exit code. */
export function printResult(name: string, options: LivesOptions, ledger: Ledger): number {
  for (const fault of ledger.faults) process.stderr.write(`${name}: ${fault}\n`);
  const { acknowledged, delivered, again, quarantined, evicted, salvages, lost } = ledger.totals;
  process.stdout.write(
    `${name}: seed ${options.seed}, ${options.rounds} rounds, ${acknowledged} acknowledged, ${delivered} delivered, ` +
      `${again} again, ${quarantined} quarantined, ${evicted} evicted and told, ${salvages} salvaged, ${ledger.faults.length} faults, lost ${lost}\n`,
  );
  return ledger.faults.length === 0 && acknowledged > 0 ? 0 : 1;
}

/** `--rounds N` and `--seed N` of the command line. */
export function readArguments(defaultRounds: number): { rounds: number; seed: number } {
  const value = (name: string, otherwise: number): number => {
    const index = process.argv.indexOf(name);
    const number = index < 0 ? otherwise : Number(process.argv[index + 1]);
    if (!Number.isSafeInteger(number) || number < 1) throw new Error(`${name} takes a whole number above 0.`);
    return number;
  };
  return { rounds: value('--rounds', defaultRounds), seed: value('--seed', Math.floor(Math.random() * 1e9) + 1) };
}
