// Where the models of a SunSpec device lie (SunSpec Device Information Model Specification): after the mark "SunS" at one
// of a few addresses, block by block, each with its id and its length in front, until the id 0xffff.

import { isGatewayError } from '#sdk';
import { ADDRESS_MAX } from './address.ts';
import { exceptionOf } from './faults.ts';
import type { AddressRange } from './holes.ts';
import type { ReadRequest } from './pdu.ts';
import { type CompiledPoint, compilePoint } from './values.ts';
import { pointSpan } from './values-shape.ts';

/** @throws GatewayError as `ModbusDevice.request`. */
type Ask = (request: ReadRequest) => Promise<Uint8Array>;

/** By id: the registers of the first model of that id, its id and length among them. */
export type SunspecModels = ReadonlyMap<number, AddressRange>;

/** Points as they lie on the device, and why the others do not. */
export interface LocatedPoints {
  readonly points: readonly CompiledPoint[];
  readonly missing: ReadonlyMap<string, string>;
}

export interface SunspecOptions {
  readonly points: readonly CompiledPoint[];
  readonly byteOrder: string;
  readonly baseAddresses: readonly number[];
}

const MARK = 'SunS';
const END_MODEL = 0xffff;
/** Id and length. */
const HEADER_REGISTERS = 2;
/** A device that never ends its chain is not followed further. */
const MODELS_MAX = 100;
/** The address cannot be read (MODBUS Application Protocol V1.1b3, section 7: illegal address, illegal value, failure). */
const REFUSALS: ReadonlySet<number> = new Set([2, 3, 4]);
/** So long a model that was missing is not looked for again: devices gain models with their firmware. */
const MISSING_MAX_AGE_MS = 600_000;

/** Reasons of points that an answering device does not have. */
export const SUNSPEC_REASONS: ReadonlySet<string> = new Set(['not_sunspec', 'no_sunspec_model', 'not_available']);

/** Finds the points of a group on their device, and remembers where they are. */
export class SunspecPoints {
  readonly #options: SunspecOptions;
  #located: LocatedPoints | undefined;
  #locatedMs = 0;

  constructor(options: SunspecOptions) {
    this.#options = options;
  }

  /**
   * The same object as long as nothing has changed. Asks the device only while its map is not known.
   * @throws GatewayError as `ModbusDevice.request`, for what is no refusal of an address.
   */
  async locate(ask: Ask, nowMs: number): Promise<LocatedPoints> {
    const known = this.#located;
    if (known !== undefined && (known.missing.size === 0 || nowMs - this.#locatedMs < MISSING_MAX_AGE_MS)) return known;
    const models = await findModels(this.#options.baseAddresses, ask);
    const located = locatePoints(this.#options, models);
    // A device without the mark may only be starting up: it is asked again.
    this.#located = models === undefined ? undefined : located;
    this.#locatedMs = nowMs;
    return located;
  }

  /** Another device may be there now. */
  forget(): void {
    this.#located = undefined;
  }
}

/** Undefined when no address has the mark. */
export async function findModels(baseAddresses: readonly number[], ask: Ask): Promise<SunspecModels | undefined> {
  const read = async (address: number): Promise<Buffer | undefined> => {
    if (address + HEADER_REGISTERS - 1 > ADDRESS_MAX) return undefined;
    try {
      return Buffer.from(await ask({ functionCode: 3, address, quantity: HEADER_REGISTERS }));
    } catch (error) {
      if (!isGatewayError(error) || !REFUSALS.has(exceptionOf(error) ?? 0)) throw error;
      return undefined;
    }
  };
  for (const base of baseAddresses) {
    if ((await read(base))?.toString('latin1') === MARK) return followChain(base + HEADER_REGISTERS, read);
  }
  return undefined;
}

async function followChain(
  start: number,
  read: (address: number) => Promise<Buffer | undefined>,
): Promise<SunspecModels> {
  const models = new Map<number, AddressRange>();
  let address = start;
  for (let count = 0; count < MODELS_MAX; count += 1) {
    const header = await read(address);
    // Some devices refuse what follows their last model in place of ending the chain.
    if (header === undefined || header.readUInt16BE(0) === END_MODEL) break;
    const quantity = HEADER_REGISTERS + header.readUInt16BE(2);
    const id = header.readUInt16BE(0);
    if (!models.has(id)) models.set(id, { address, quantity });
    address += quantity;
  }
  return models;
}

function locatePoints({ points, byteOrder }: SunspecOptions, models: SunspecModels | undefined): LocatedPoints {
  const located: CompiledPoint[] = [];
  const missing = new Map<string, string>();
  for (const point of points) {
    const found = locatePoint(point, byteOrder, models);
    if (typeof found === 'string') missing.set(point.name, found);
    else located.push(found);
  }
  return { points: located, missing };
}

/** The point where it lies, or why it is not there. */
function locatePoint(
  point: CompiledPoint,
  byteOrder: string,
  models: SunspecModels | undefined,
): CompiledPoint | string {
  const { name, config } = point;
  if (config.sunspec_models === undefined) return point;
  if (models === undefined) return 'not_sunspec';
  const model = config.sunspec_models.map((id) => models.get(id)).find((range) => range !== undefined);
  if (model === undefined) return 'no_sunspec_model';
  const { address, quantity } = pointSpan(config);
  // A revision of the model without the point.
  if (address + quantity > model.quantity) return 'not_available';
  return compilePoint(name, config, byteOrder, model.address);
}
