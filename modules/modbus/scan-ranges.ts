// Which addresses of one table of a device can be read.

import { throwIfAborted } from '#sdk';
import type { RegisterTable } from './address.ts';
import { bisect } from './bisect.ts';
import { exceptionOf, isNoAnswer } from './faults.ts';
import { Holes } from './holes.ts';
import { readFunction, type ReadRequest } from './pdu.ts';
import { type PlannedPoint, requestFor } from './poll-plan.ts';

/** What one table of a device lets be read. */
export interface TableFindings {
  readonly table: RegisterTable;
  /** First and last address of each range. */
  readonly ranges: readonly (readonly [number, number])[];
  /** Bytes that were read, each block from its first address on. */
  readonly blocks: readonly Uint8Array[];
}

export interface TableProgress {
  /** Addresses of which it is known whether they can be read. */
  readonly settled: number;
  /** So many reads more at most. */
  readonly readsLeft: number;
}

export interface RangeSearch {
  readonly unitId: number;
  readonly addresses: readonly number[];
  readonly signal: AbortSignal;
  readonly exchange: (request: ReadRequest) => Promise<Uint8Array>;
  /** Told after each read. */
  readonly onRead: (progress: TableProgress) => void;
  /** Told after each block: what is known until then. */
  readonly onBlock: (findings: TableFindings) => void;
  readonly onNote: (text: string) => void;
}

/** Addresses that are asked for at once; small, because many devices refuse longer blocks. */
const BLOCK = 64;
/** So many requests for one table at most: a table full of holes costs two for each address. */
const TABLE_REQUESTS_MAX = 2000;
/** Exceptions that say that an address cannot be read: illegal address, illegal value, device failure (section 7). */
const REFUSALS: ReadonlySet<number> = new Set([2, 3, 4]);

/** Reads of a table that has all of the addresses. */
export function leastTableReads(addresses: readonly number[]): number {
  return Math.ceil(addresses.length / BLOCK);
}

/** Reads of a table that has few of the addresses: halving a block down to each costs less than two for each. */
export function mostTableReads(addresses: readonly number[]): number {
  return Math.min(TABLE_REQUESTS_MAX, 2 * addresses.length);
}

/**
 * Asks block by block, and halves what is refused until it is known which addresses can be read.
 * @throws GatewayError GW_ABORTED, and what the line throws.
 */
export async function readableRanges(search: RangeSearch, table: RegisterTable): Promise<TableFindings> {
  const { addresses } = search;
  const readable = new Set<number>();
  const blocks: Uint8Array[] = [];
  let requests = 0;
  let settled = 0;
  let isOver = false;
  const findings = (): TableFindings => ({ table, ranges: rangesOf([...readable]), blocks });
  const askOnce = async (request: { address: number; quantity: number }): Promise<'answered' | 'refused'> => {
    try {
      blocks.push(await readBlock(search, table, request));
    } catch (error) {
      const exception = exceptionOf(error);
      if (exception === undefined && !isNoAnswer(error)) throw error;
      isOver = exception === undefined || !REFUSALS.has(exception);
      if (request.quantity === 1) settled += 1;
      return 'refused';
    }
    for (let index = 0; index < request.quantity; index += 1) readable.add(request.address + index);
    settled += request.quantity;
    return 'answered';
  };
  const ask: typeof askOnce = async (request) => {
    throwIfAborted(search.signal);
    // Beyond the bound nothing more is asked, and so nothing more is said to be readable.
    if (isOver || (requests += 1) > TABLE_REQUESTS_MAX) return 'refused';
    const result = await askOnce(request);
    const readsLeft = Math.min(TABLE_REQUESTS_MAX - requests, 2 * (addresses.length - settled));
    search.onRead(isOver ? { settled: addresses.length, readsLeft: 0 } : { settled, readsLeft });
    return result;
  };
  for (const points of blocksOf(addresses, table)) {
    const request = requestFor(table, points);
    if ((await ask(request)) === 'refused' && !isOver) await bisect(request, new Holes(), ask);
    if (isOver || requests > TABLE_REQUESTS_MAX) break;
    search.onBlock(findings());
  }
  if (requests > TABLE_REQUESTS_MAX) {
    search.onNote(
      `Unit ${search.unitId}, ${table}: ended after ${TABLE_REQUESTS_MAX} requests; narrow it with addresses.`,
    );
  }
  return findings();
}

/** One read; a second try where there was no answer, because a line loses frames now and then. */
async function readBlock(
  { exchange }: RangeSearch,
  table: RegisterTable,
  { address, quantity }: { address: number; quantity: number },
): Promise<Uint8Array> {
  const request: ReadRequest = { functionCode: readFunction(table), address, quantity };
  try {
    return await exchange(request);
  } catch (error) {
    if (!isNoAnswer(error)) throw error;
    return exchange(request);
  }
}

/** Neighbouring addresses in blocks. */
function* blocksOf(addresses: readonly number[], table: RegisterTable): Generator<PlannedPoint[]> {
  let block: PlannedPoint[] = [];
  for (const address of [...addresses].sort((a, b) => a - b)) {
    const last = block.at(-1);
    if (last !== undefined && (last.address + 1 !== address || block.length === BLOCK)) {
      yield block;
      block = [];
    }
    block.push({ table, address, quantity: 1 });
  }
  if (block.length > 0) yield block;
}

function rangesOf(addresses: readonly number[]): (readonly [number, number])[] {
  const ranges: [number, number][] = [];
  for (const address of [...addresses].sort((a, b) => a - b)) {
    const last = ranges.at(-1);
    if (last !== undefined && last[1] + 1 === address) last[1] = address;
    else ranges.push([address, address]);
  }
  return ranges;
}
