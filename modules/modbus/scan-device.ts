// What one device that answers is: who it says it is, which addresses can be read, and in which order its bytes lie.

import type { ScanFinding, ScanProfile } from '#sdk';
import { isBitTable, type RegisterTable } from './address.ts';
import { SUNSPEC_BASE_ADDRESSES } from './config.ts';
import { exceptionOf, isNoAnswer } from './faults.ts';
import { type DeviceIdentification, identifyDevice } from './identification.ts';
import type { ModbusRequest } from './pdu.ts';
import { profileFor, sunspecProfileFor } from './profile.ts';
import type { ScanLine } from './scan-line.ts';
import type { ScanOptions } from './scan-options.ts';
import {
  leastTableReads,
  mostTableReads,
  readableRanges,
  type TableFindings,
  type TableProgress,
} from './scan-ranges.ts';
import { findModels } from './sunspec.ts';
import { suggestByteOrder } from './suggest-order.ts';

export type Exchange = (request: ModbusRequest) => Promise<Uint8Array>;

/** How far the look at one device is. */
export interface DeviceProgress {
  /** What is looked at: `input addresses`. */
  readonly text: string;
  /** Share of its addresses that are settled, 0 to 1. */
  readonly doneShare: number;
  /** So many reads more at most. */
  readonly readsLeft: number;
}

export interface DeviceScan {
  readonly line: ScanLine;
  readonly unitId: number;
  /** Asks this device on that line. */
  readonly exchange: Exchange;
  readonly options: ScanOptions;
  readonly signal: AbortSignal;
  readonly profiles: readonly ScanProfile[];
  readonly onProgress: (progress: DeviceProgress) => void;
  /** What is known until then, each time that more is. */
  readonly onPartial: (finding: ScanFinding) => void;
  readonly onNote: (text: string) => void;
}

/** Reads that a device is looked for with, one after the other while nobody answers. */
export const PRESENCE_FUNCTIONS = [3, 4] as const;
/** In place of a device, a gateway says that nobody answers it (section 7: 10 and 11). */
const NOBODY: ReadonlySet<number> = new Set([10, 11]);

/**
 * Whether somebody answers to a unit id: any answer counts but that of a gateway which says that nobody does. Some devices
 * are silent to functions that they do not know in place of refusing them, so holding and input registers are both tried.
 */
export async function isPresent(exchange: Exchange): Promise<boolean> {
  for (const functionCode of PRESENCE_FUNCTIONS) {
    try {
      await exchange({ functionCode, address: 0, quantity: 1 });
      return true;
    } catch (error) {
      const exception = exceptionOf(error);
      if (exception !== undefined) return !NOBODY.has(exception);
      if (!isNoAnswer(error)) throw error;
    }
  }
  return false;
}

/** Reads that whoever answers costs beside those of its addresses. */
const LOOK_READS = 1 + SUNSPEC_BASE_ADDRESSES.length;

/** About how many reads a device that answers costs: the more of the addresses it does not have, the more. */
export function readsPerDevice({ skip_ranges: skipRanges, tables, addresses }: ScanOptions): {
  readonly least: number;
  readonly most: number;
} {
  const tableCount = skipRanges ? 0 : tables.length;
  return {
    least: LOOK_READS + tableCount * leastTableReads(addresses),
    most: LOOK_READS + tableCount * mostTableReads(addresses),
  };
}

interface Known {
  identification: DeviceIdentification;
  models: readonly number[];
  tables: readonly TableFindings[];
}

/** @throws GatewayError GW_ABORTED, and what opening the line throws. */
export async function scanDevice(scan: DeviceScan): Promise<ScanFinding> {
  const { options, onPartial, onProgress } = scan;
  const known: Known = { identification: {}, models: [], tables: [] };
  const { most } = readsPerDevice(options);
  onPartial(findingOf(scan, known));
  onProgress({ text: 'identification', doneShare: 0, readsLeft: most });
  known.identification = await identify(scan);
  onPartial(findingOf(scan, known));
  onProgress({ text: 'SunSpec models', doneShare: 0, readsLeft: most - 1 });
  known.models = await sunspecModels(scan);
  onPartial(findingOf(scan, known));
  if (!options.skip_ranges) {
    for (const [index, table] of options.tables.entries()) await lookAtTable(scan, known, table, index);
  }
  return findingOf(scan, known);
}

/** @param index of the table among those that are looked at */
async function lookAtTable(scan: DeviceScan, known: Known, table: RegisterTable, index: number): Promise<void> {
  const { unitId, exchange, signal, options, onPartial, onProgress, onNote } = scan;
  const { addresses, tables } = options;
  const readsAfter = (tables.length - index - 1) * mostTableReads(addresses);
  const before = known.tables;
  const keep = (findings: TableFindings): void => {
    known.tables = [...before, findings];
    onPartial(findingOf(scan, known));
  };
  const onRead = ({ settled, readsLeft }: TableProgress): void => {
    const doneShare = (index + settled / addresses.length) / tables.length;
    onProgress({ text: `${table} addresses`, doneShare, readsLeft: readsAfter + readsLeft });
  };
  keep(await readableRanges({ unitId, exchange, signal, addresses, onRead, onBlock: keep, onNote }, table));
}

function findingOf(scan: DeviceScan, { identification, models, tables }: Known): ScanFinding {
  const order = suggestByteOrder(tables.filter(({ table }) => !isBitTable(table)).map(({ blocks }) => blocks));
  const profile = profileFor(identification, scan.profiles) ?? sunspecProfileFor(models, scan.profiles);
  return {
    place: `${scan.line.text}, unit ${scan.unitId}`,
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

async function identify({ exchange }: DeviceScan): Promise<DeviceIdentification> {
  try {
    return await identifyDevice(exchange);
  } catch (error) {
    if (exceptionOf(error) !== undefined || isNoAnswer(error)) return {};
    throw error;
  }
}

/** Ids of the models of a SunSpec map; none when the device has no map. */
async function sunspecModels({ exchange }: DeviceScan): Promise<readonly number[]> {
  try {
    const models = await findModels(SUNSPEC_BASE_ADDRESSES, exchange);
    return [...(models?.keys() ?? [])];
  } catch (error) {
    if (exceptionOf(error) !== undefined || isNoAnswer(error)) return [];
    throw error;
  }
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
