// The identity registry over HTTPS: a thousand identities in bulk; a page, a get and an update among a million, and what those
// cost in memory.

import { join } from 'node:path';
import { startChild } from '../support/child.ts';
import { atMost, median, quantile, whole, type BenchContext, type BenchRow } from './bench.ts';
import { openService, type HubService } from './hub-client.ts';
import { startHub } from './hub.ts';
import { idleRssMb } from './process-meter.ts';

const ADDRESS = '127.0.101.5';
const FEW = 1000;
const MANY = 1_000_000;
const MANY_QUICK = 100_000;
const FILL_TIMEOUT_MS = 30 * 60_000;
const SETTLE_MS = 12_000;
const BULK_BAR_SECS = 2;
const CALL_BAR_SECS = 0.02;
/** What the store maps and caches at most, so that it shows any growth by the number of identities. */
const GROWTH_BAR_MB = 30;

interface Asked {
  /** The first page that the hub was asked for since its start. */
  readonly firstPageMs: number;
  readonly pageMs: readonly number[];
  readonly getMs: readonly number[];
  readonly updateMs: readonly number[];
  /** At rest, after all that. */
  readonly rssMb: number;
}

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  const many = context.quick ? MANY_QUICK : MANY;
  const times = context.quick ? 100 : 500;
  const bulkSecs: number[] = [];
  const few = await ask(context, 'few', FEW, times, async (service) => {
    const startedMs = performance.now();
    await service.createDevices(FEW);
    bulkSecs.push((performance.now() - startedMs) / 1000);
  });
  context.progress(`${whole(many)} identities are made`);
  await fill(join(context.directory, 'many', 'data'), many);
  const asked = await ask(context, 'many', many, times);
  const row = (what: string, ms: readonly number[], note = ''): BenchRow => ({
    what: `registry of ${whole(many)} identities over HTTPS: ${what}, p99`,
    measured: `median ${median(ms).toFixed(1)} ms, p99 ${quantile(ms, 0.99).toFixed(1)} ms, ${ms.length} of them, one after the other${note}${context.quick ? `; ${whole(MANY)} without --quick` : ''}`,
    value: quantile(ms, 0.99) / 1000,
    unit: 's',
    bar: atMost(CALL_BAR_SECS),
  });
  return [
    {
      what: `${whole(FEW)} identities created in bulk over HTTPS`,
      measured: 'ten calls of 100, one after the other, each stored before it is answered; hub just started',
      value: median(bulkSecs),
      unit: 's',
      bar: atMost(BULK_BAR_SECS),
    },
    row(
      'a page of 1 000',
      asked.pageMs,
      `, one of its identities updated before each; the first after the start ${asked.firstPageMs.toFixed(1)} ms`,
    ),
    row('one get', asked.getMs),
    row('one update', asked.updateMs),
    {
      what: `RSS with ${whole(many)} identities, more than with ${whole(FEW)}, after the same calls`,
      measured: `${few.rssMb.toFixed(1)} → ${asked.rssMb.toFixed(1)} MB`,
      value: asked.rssMb - few.rssMb,
      unit: 'MB',
      bar: atMost(GROWTH_BAR_MB),
    },
  ];
}

async function fill(dataDirectory: string, count: number): Promise<void> {
  const child = startChild(join(import.meta.dirname, 'hub-fill-child.ts'), { args: [dataDirectory, String(count)] });
  const isFilled = (report: unknown): report is object => typeof report === 'object' && report !== null;
  await child.next(isFilled, FILL_TIMEOUT_MS);
  await child.exited;
}

/** Starts the hub on that directory, prepares it, and asks `times` for each. */
async function ask(
  context: BenchContext,
  directory: string,
  identities: number,
  times: number,
  prepare?: (service: HubService) => Promise<void>,
): Promise<Asked> {
  const { daemon, target } = await startHub(context, { address: ADDRESS, directory });
  await using _ = daemon;
  const service = openService(target);
  await prepare?.(service);
  // A stride over all of them that no cache can follow.
  const idOf = (n: number): string => `device-${(n * 7919) % identities}`;
  const page = (): Promise<unknown> => service.read('/devices');
  const get = (n: number): Promise<unknown> => service.read(`/devices/${idOf(n)}`);
  const put = (id: string, n: number): Promise<unknown> =>
    service.call('PUT', `/devices/${id}`, { status: 'enabled', statusReason: `update ${n}` }, { 'if-match': '*' });
  const [firstPageMs = Number.NaN] = await timed(1, page, { warmUp: 0 });
  // Ids sort as text: those are on the first page, however many there are.
  const pageMs = await timed(times, page, { before: (n) => put(`device-${10 ** (n % 3)}`, n) });
  const getMs = await timed(times, get);
  const updateMs = await timed(times, (n) => put(idOf(n), n));
  const rssMb = await idleRssMb(daemon.pid, SETTLE_MS, 5);
  service.close();
  await daemon.stop();
  return { firstPageMs, pageMs, getMs, updateMs, rssMb };
}

/** Asks as often as said, after a warm-up. @param before is not counted. */
async function timed(
  times: number,
  work: (n: number) => Promise<unknown>,
  { warmUp = Math.ceil(times / 10), before }: { warmUp?: number; before?: (n: number) => Promise<unknown> } = {},
): Promise<readonly number[]> {
  const tookMs: number[] = [];
  for (let n = 0; n < times + warmUp; n += 1) {
    await before?.(n);
    const startedMs = performance.now();
    await work(n);
    if (n >= warmUp) tookMs.push(performance.now() - startedMs);
  }
  return tookMs;
}
