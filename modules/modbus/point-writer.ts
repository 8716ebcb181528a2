// Writes to the points of one device: the right function code, one write at a time, and a look at what came of it.

import { abortable, type Clock, GatewayError, GOOD, isGatewayError, LIMITS, qualityText, type WriteResult } from '#sdk';
import type { ModbusDevice } from './device.ts';
import { exceptionOf } from './faults.ts';
import { BROADCAST_UNIT, type ModbusRequest, readFunction, type ReadRequest } from './pdu.ts';
import type { CompiledPoint, EncodedWrite } from './values.ts';

export interface PointWriterOptions {
  readonly device: ModbusDevice;
  readonly clock: Clock;
  /** Whether single coils and registers are written with functions 15 and 16 too. */
  readonly forceMultiple: boolean;
  /** Writes that wait on this bus, all devices together. */
  readonly waiting: { count: number };
}

const ILLEGAL_FUNCTION = 1;
/** Registers that function 23 can write (section 6.17). */
const READ_WRITE_REGISTERS_MAX = 121;
/** Devices that take a value over only at the end of their cycle are read a second time. */
const SECOND_LOOK_MS = 200;
const UNCONFIRMED: WriteResult = { quality: { level: 'uncertain', reason: 'broadcast' } };

export class PointWriter {
  readonly #options: PointWriterOptions;
  #hasMaskWrite = true;
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: PointWriterOptions) {
    this.#options = options;
  }

  /**
   * Writes a value and reads it back, after the writes that came before.
   * @throws GatewayError GW_DEVICE_OFFLINE, GW_BUS_BUSY, GW_WRITE_VERIFY, GW_MODBUS_EXCEPTION, GW_MODBUS_FRAME, GW_TIMEOUT,
   * GW_DISCONNECTED, GW_ABORTED.
   */
  async write(point: CompiledPoint, encoded: EncodedWrite, signal: AbortSignal): Promise<WriteResult> {
    const { device, waiting } = this.#options;
    if (device.isSuspended || device.bus.state === 'disconnected') {
      const reason =
        device.bus.error?.message ?? `It did not answer (${device.silence}) and is probed from time to time.`;
      throw new GatewayError('GW_DEVICE_OFFLINE', `"${device.id}" is offline: ${reason}`);
    }
    if (waiting.count >= LIMITS.bus_waiting_writes) {
      throw new GatewayError(
        'GW_BUS_BUSY',
        `${device.bus.target}: ${waiting.count} writes wait already. Write less often.`,
      );
    }
    waiting.count += 1;
    // One after the other: a part of a register may have to be read, changed and written as a whole.
    const turn = this.#last;
    const done = turn
      .then(() => this.#perform(point, encoded, signal))
      .finally(() => {
        waiting.count -= 1;
      });
    this.#last = done.catch(() => {});
    return abortable(done, signal);
  }

  async #perform(point: CompiledPoint, write: EncodedWrite, signal: AbortSignal): Promise<WriteResult> {
    const { device } = this.#options;
    const readBack = isForOneExchange(point, write)
      ? await this.#writeAndRead(point, write.values, signal)
      : await this.#send(point, write, signal);
    if (device.settings.unitId === BROADCAST_UNIT && !device.bus.answersBroadcast) return UNCONFIRMED;
    if (point.config.write_verification === 'none') return { quality: GOOD };
    return this.#verify(point, write, readBack, signal);
  }

  /** Function 23 writes, then reads, in one exchange (section 6.17). */
  #writeAndRead(
    { address, quantity }: CompiledPoint,
    values: readonly number[],
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    return this.#request(
      { functionCode: 23, readAddress: address, readQuantity: quantity, writeAddress: address, values },
      signal,
    );
  }

  async #send(point: CompiledPoint, write: EncodedWrite, signal: AbortSignal): Promise<undefined> {
    const { forceMultiple } = this.#options;
    if (write.kind === 'registers' && write.mask !== undefined) {
      await this.#sendPart(point, write.values[0] ?? 0, write.mask, signal);
    } else {
      await this.#request(writeRequest(point.address, write, forceMultiple), signal);
    }
  }

  /** Changes some bits of a register: function 22, or read, change and write where the device does not know it. */
  async #sendPart(point: CompiledPoint, value: number, mask: number, signal: AbortSignal): Promise<void> {
    const { address } = point;
    if (this.#hasMaskWrite) {
      // Section 6.16: result = (current AND andMask) OR (orMask AND NOT andMask).
      const andMask = ~mask & 0xffff;
      try {
        await this.#request({ functionCode: 22, address, andMask, orMask: value & mask }, signal);
        return;
      } catch (error) {
        if (exceptionOf(error) !== ILLEGAL_FUNCTION) throw error;
        this.#hasMaskWrite = false;
      }
    }
    const data = await this.#request({ functionCode: 3, address, quantity: 1 }, signal);
    const current = ((data[0] ?? 0) << 8) | (data[1] ?? 0);
    const values = [(current & ~mask & 0xffff) | (value & mask)];
    await this.#request(writeRequest(address, { kind: 'registers', values }, this.#options.forceMultiple), signal);
  }

  /** `seen` is what the device held right after the write, where that is known already. */
  async #verify(
    point: CompiledPoint,
    write: EncodedWrite,
    seen: Uint8Array | undefined,
    signal: AbortSignal,
  ): Promise<WriteResult> {
    const { device, clock } = this.#options;
    const { table, address, quantity } = point;
    const request: ReadRequest = { functionCode: readFunction(table), address, quantity };
    let data = seen ?? (await this.#request(request, signal));
    if (!point.holds(write, data, address)) {
      await clock.sleep(SECOND_LOOK_MS, signal);
      data = await this.#request(request, signal);
    }
    const { value, quality } = point.read(data, address);
    if (point.holds(write, data, address)) return { ...(value === undefined ? {} : { readBack: value }), quality };
    const held = value === undefined ? qualityText(quality) : String(value);
    throw new GatewayError(
      'GW_WRITE_VERIFY',
      `"${device.id}" took the write to "${point.name}" but holds ${held}. If the point reads otherwise than it is written, set \`write_verification: none\`.`,
      { details: { reason: 'verify', readBack: held } },
    );
  }

  #request(request: ModbusRequest, signal: AbortSignal): Promise<Uint8Array> {
    const { device, clock } = this.#options;
    return device
      .request(request, { priority: 'write', dueMs: clock.monotonicMs() }, signal)
      .catch((error: unknown) => {
        if (!isGatewayError(error, 'GW_DISCONNECTED')) throw error;
        throw new GatewayError('GW_DEVICE_OFFLINE', `"${device.id}" is offline: ${error.message}`, { cause: error });
      });
  }
}

/** Whether it is to be, and can be, written and read in one exchange: whole registers, and not more than that carries. */
function isForOneExchange(
  { config }: CompiledPoint,
  write: EncodedWrite,
): write is Extract<EncodedWrite, { kind: 'registers' }> {
  if (config.write_verification !== 'read_write' || write.kind !== 'registers') return false;
  return write.mask === undefined && write.values.length <= READ_WRITE_REGISTERS_MAX;
}

function writeRequest(address: number, write: EncodedWrite, forceMultiple: boolean): ModbusRequest {
  if (write.kind === 'bits') {
    const [on] = write.states;
    if (write.states.length === 1 && on !== undefined && !forceMultiple) return { functionCode: 5, address, on };
    return { functionCode: 15, address, states: write.states };
  }
  const [value] = write.values;
  if (write.values.length === 1 && value !== undefined && !forceMultiple) return { functionCode: 6, address, value };
  return { functionCode: 16, address, values: write.values };
}
