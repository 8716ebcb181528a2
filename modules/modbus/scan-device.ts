// What one device that answers is: who it says it is, which addresses can be read, and in which order its bytes lie.

import { isGatewayError, type ScanFinding, type ScanProfile, throwIfAborted } from '#sdk';
import { isBitTable, type RegisterTable } from './address.ts';
import { bisect } from './bisect.ts';
import { SUNSPEC_BASE_ADDRESSES } from './config.ts';
import { exceptionOf } from './faults.ts';
import { Holes } from './holes.ts';
import { type DeviceIdentification, identifyDevice } from './identification.ts';
import { readFunction, type ReadRequest } from './pdu.ts';
import { type PlannedPoint, requestFor } from './poll-plan.ts';
import { profileFor, sunspecProfileFor } from './profile.ts';
import type { ScanLine } from './scan-line.ts';
import type { ScanOptions } from './scan-options.ts';
import { findModels } from './sunspec.ts';
import { suggestByteOrder } from './suggest-order.ts';

/** What one table of a device lets be read. */
interface TableFindings {
  readonly table: RegisterTable;
  /** First and last address of each range. */
  readonly ranges: readonly (readonly [number, number])[];
  /** Bytes that were read, each block from its first address on. */
  readonly blocks: readonly Uint8Array[];
}

export interface DeviceScan {
  readonly line: ScanLine;
  readonly unitId: number;
  readonly options: ScanOptions;
  readonly signal: AbortSignal;
  readonly profiles: readonly ScanProfile[];
  /** Told before each table. */
  readonly onStep: (text: string) => void;
  readonly onNote: (text: string) => void;
}

/** Addresses that are asked for at once; small, because many devices refuse longer blocks. */
const BLOCK = 64;
/** So many requests for one table at most: a table full of holes costs two for each address. */
const TABLE_REQUESTS_MAX = 2000;
/** Exceptions that say that an address cannot be read: illegal address, illegal value, device failure (section 7). */
const REFUSALS: ReadonlySet<number> = new Set([2, 3, 4]);
/** Reads that a device is looked for with, one after the other while nobody answers. */
export const PRESENCE_FUNCTIONS = [3, 4] as const;
/** In place of a device, a gateway says that nobody answers it (section 7: 10 and 11). */
const NOBODY: ReadonlySet<number> = new Set([10, 11]);

/**
 * Whether somebody answers to a unit id: any answer counts but that of a gateway which says that nobody does. Some devices
 * are silent to functions that they do not know in place of refusing them, so holding and input registers are both tried.
 */
export async function isPresent(line: ScanLine, unitId: number): Promise<boolean> {
  for (const functionCode of PRESENCE_FUNCTIONS) {
    try {
      await line.exchange(unitId, { functionCode, address: 0, quantity: 1 });
      return true;
    } catch (error) {
      const exception = exceptionOf(error);
      if (exception !== undefined) return !NOBODY.has(exception);
      if (!isNoAnswer(error)) throw error;
    }
  }
  return false;
}

/** Silence, garbage and a server that hangs up say only that nobody sound is there. */
function isNoAnswer(error: unknown): boolean {
  return (
    isGatewayError(error, 'GW_TIMEOUT') ||
    isGatewayError(error, 'GW_MODBUS_FRAME') ||
    isGatewayError(error, 'GW_DISCONNECTED')
  );
}

/** Reads that a device which answers costs at least; addresses that it does not have cost more, to `TABLE_REQUESTS_MAX`. */
export function leastReads({ skip_ranges: skipRanges, tables, addresses }: ScanOptions): number {
  const look = 1 + SUNSPEC_BASE_ADDRESSES.length;
  return skipRanges ? look : look + tables.length * Math.ceil(addresses.length / BLOCK);
}

/** @throws GatewayError GW_ABORTED, and what opening the line throws. */
export async function scanDevice(scan: DeviceScan): Promise<ScanFinding> {
  const { line, unitId, options, onStep } = scan;
  onStep('identification');
  const identification = await identify(scan);
  onStep('SunSpec models');
  const models = await sunspecModels(scan);
  const tables: TableFindings[] = [];
  if (!options.skip_ranges) {
    for (const table of options.tables) {
      onStep(`${table} addresses`);
      tables.push(await readableRanges(scan, table));
    }
  }
  const order = suggestByteOrder(tables.filter(({ table }) => !isBitTable(table)).map(({ blocks }) => blocks));
  const profile = profileFor(identification, scan.profiles) ?? sunspecProfileFor(models, scan.profiles);
  return {
    place: `${line.text}, unit ${unitId}`,
    facts: {
      ...identification,
      ...(models.length === 0 ? {} : { 'SunSpec models': models.join(', ') }),
      ...(profile === undefined ? {} : { profile }),
      ...Object.fromEntries(
        tables.map(({ table, ranges }) => [`readable ${table}`, rangesText(ranges)]).filter(([, text]) => text !== ''),
      ),
      ...(order === undefined
        ? {}
        : {
            'byte order': `${order.order} (${order.floats} of ${order.pairs} pairs of registers are ordinary floats so)`,
          }),
    },
    suggestion: suggestionOf(scan, tables, { order: order?.order, profile }),
  };
}

async function identify({ line, unitId }: DeviceScan): Promise<DeviceIdentification> {
  try {
    return await identifyDevice((request) => line.exchange(unitId, request));
  } catch (error) {
    if (exceptionOf(error) !== undefined || isNoAnswer(error)) return {};
    throw error;
  }
}

/** Ids of the models of a SunSpec map; none when the device has no map. */
async function sunspecModels({ line, unitId }: DeviceScan): Promise<readonly number[]> {
  try {
    const models = await findModels(SUNSPEC_BASE_ADDRESSES, (request) => line.exchange(unitId, request));
    return [...(models?.keys() ?? [])];
  } catch (error) {
    if (exceptionOf(error) !== undefined || isNoAnswer(error)) return [];
    throw error;
  }
}

/** Asks block by block, and halves what is refused until it is known which addresses can be read. */
async function readableRanges(scan: DeviceScan, table: RegisterTable): Promise<TableFindings> {
  const readable = new Set<number>();
  const blocks: Uint8Array[] = [];
  let requests = 0;
  let isOver = false;
  const ask = async (request: { address: number; quantity: number }): Promise<'answered' | 'refused'> => {
    throwIfAborted(scan.signal);
    // Beyond the bound nothing more is asked, and so nothing more is said to be readable.
    if (isOver || (requests += 1) > TABLE_REQUESTS_MAX) return 'refused';
    try {
      blocks.push(await readBlock(scan, table, request));
    } catch (error) {
      const exception = exceptionOf(error);
      if (exception === undefined && !isNoAnswer(error)) throw error;
      isOver = exception === undefined || !REFUSALS.has(exception);
      return 'refused';
    }
    for (let index = 0; index < request.quantity; index += 1) readable.add(request.address + index);
    return 'answered';
  };
  for (const points of blocksOf(scan.options.addresses, table)) {
    const request = requestFor(table, points);
    if ((await ask(request)) === 'refused' && !isOver) await bisect(request, new Holes(), ask);
    if (isOver || requests > TABLE_REQUESTS_MAX) break;
  }
  if (requests > TABLE_REQUESTS_MAX) {
    scan.onNote(
      `Unit ${scan.unitId}, ${table}: ended after ${TABLE_REQUESTS_MAX} requests; narrow it with --addresses.`,
    );
  }
  return { table, ranges: rangesOf([...readable]), blocks };
}

/** One read; a second try where there was no answer, because a line loses frames now and then. */
async function readBlock(
  { line, unitId }: DeviceScan,
  table: RegisterTable,
  { address, quantity }: { address: number; quantity: number },
): Promise<Uint8Array> {
  const request: ReadRequest = { functionCode: readFunction(table), address, quantity };
  try {
    return await line.exchange(unitId, request);
  } catch (error) {
    if (!isNoAnswer(error)) throw error;
    return line.exchange(unitId, request);
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

/** Many more ranges nobody reads. */
const RANGES_SHOWN = 20;

function rangesText(ranges: TableFindings['ranges']): string {
  const texts = ranges
    .slice(0, RANGES_SHOWN)
    .map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`));
  return ranges.length > RANGES_SHOWN
    ? `${texts.join(', ')} and ${ranges.length - RANGES_SHOWN} more`
    : texts.join(', ');
}

interface Guess {
  readonly order: string | undefined;
  readonly profile: string | undefined;
}

/** An adapter that reads the device by its profile, else the first readable address of each table, to begin with. */
function suggestionOf(
  { line, unitId }: DeviceScan,
  tables: readonly TableFindings[],
  { order, profile }: Guess,
): string {
  const points = tables.flatMap(({ table, ranges: [first] }) =>
    first === undefined ? [] : [`      ${table}_${first[0]}: { register: '${table}:${first[0]}' }`],
  );
  const read =
    profile === undefined
      ? [
          ...(order === undefined || order === 'ABCD' ? [] : [`    byte_order: ${order}`]),
          ...(points.length === 0 ? ['    points: {}'] : ['    points:', ...points]),
        ]
      : [`    profile: ${profile}`];
  const device = [`  device-${unitId}:`, `    unit_id: ${unitId}`, ...read];
  return ['type: modbus', ...transportText(line), 'devices:', ...device].join('\n');
}

function transportText({ transport }: ScanLine): string[] {
  if (transport === undefined) return [];
  if ('path' in transport) {
    const { kind, path, baud_rate: baud, parity } = transport;
    return [`transport: { kind: ${kind}, path: ${path}, baud_rate: ${baud}, parity: ${parity} }`];
  }
  return [`transport: { kind: ${transport.kind}, host: ${transport.host ?? ''}, port: ${transport.port} }`];
}
