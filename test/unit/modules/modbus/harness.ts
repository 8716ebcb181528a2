// What tests of the bus half share: a context that records, and a Modbus TCP server whose every answer is a function.

import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { createModbusAdapter, type ModbusAdapter } from '../../../../modules/modbus/adapter.ts';
import { modbusConfig } from '../../../../modules/modbus/config.ts';
import type { AdapterContext, Exchange, PollTiming } from '../../../../src/core/adapter.ts';
import type { LogFields, Logger } from '../../../../src/core/log.ts';
import { qualityText, type ReadingBatch } from '../../../../src/core/reading.ts';
import { SystemClock } from '../../../../src/platform/clock.ts';
import { memorySpace } from '../../../support/state.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';

export const NEVER = new AbortController().signal;

export interface LogLine {
  readonly level: string;
  readonly sentence: string;
  readonly fields: LogFields;
}

export interface Recording {
  readonly context: AdapterContext;
  readonly batches: ReadingBatch[];
  readonly states: { device: string; state: string; reason: string | undefined; atMs: number }[];
  readonly exchanges: Exchange[];
  readonly polls: PollTiming[];
  readonly logs: LogLine[];
  /** The newest quality of a point, `good` or `bad:REASON`; undefined before the first reading. */
  quality(device: string, point: string): string | undefined;
  /** The newest value of a point. */
  value(device: string, point: string): unknown;
  state(device: string): string | undefined;
}

export function record(fields: Partial<AdapterContext> = {}): Recording {
  const clock = new SystemClock();
  const batches: ReadingBatch[] = [];
  const states: Recording['states'] = [];
  const exchanges: Exchange[] = [];
  const polls: PollTiming[] = [];
  const logs: LogLine[] = [];
  const line =
    (level: string) =>
    (fields: LogFields, sentence: string): void => {
      logs.push({ level, sentence, fields });
    };
  const log: Logger = {
    debug: line('debug'),
    info: line('info'),
    warn: line('warn'),
    error: line('error'),
    child: () => log,
  };
  const context: AdapterContext = {
    adapterId: 'bus-1',
    gatewayId: parseDeviceId('gateway-1'),
    clock,
    log,
    publishReadings: (batch) => void batches.push(batch),
    publishMessages: () => Promise.resolve(),
    storeReadings: (batch) => Promise.resolve(void batches.push(batch)),
    addDevice: () => undefined,
    reportRefusal: () => {},
    ready: () => Promise.resolve(),
    reportDevice: (device, state, reason) => void states.push({ device, state, reason, atMs: clock.monotonicMs() }),
    dataDirectory: '/nowhere',
    captureDirectory: '/nowhere',
    state: memorySpace(),
    reportExchange: (exchange) => void exchanges.push(exchange),
    reportPoll: (timing) => void polls.push(timing),
    ...fields,
  };
  const reading = (device: string, point: string) =>
    batches
      .findLast(({ deviceId, readings }) => deviceId === device && readings.some((reading) => reading.point === point))
      ?.readings.find((reading) => reading.point === point);
  return {
    context,
    batches,
    states,
    exchanges,
    polls,
    logs,
    quality(device, point) {
      const found = reading(device, point);
      return found === undefined ? undefined : qualityText(found.quality);
    },
    value: (device, point) => reading(device, point)?.value,
    state: (device) => states.findLast((state) => state.device === device)?.state,
  };
}

/** An adapter from a configuration as a person would write it. */
export function adapterFor(config: unknown, recording: Recording): ModbusAdapter {
  return createModbusAdapter(modbusConfig.parse(config), recording.context);
}

export interface ServedRequest {
  readonly transactionId: number;
  readonly unitId: number;
  readonly functionCode: number;
  /** First field after the function code: the address. */
  readonly address: number;
  /** Second field: quantity or value. */
  readonly quantity: number;
  /** Protocol data unit. */
  readonly pdu: Buffer;
  readonly socket: Socket;
  readonly atMs: number;
}

/** The protocol data unit to answer with; a frame as it is; or nothing at all. */
export type Answer = { pdu: Buffer } | { frame: Buffer } | undefined;

export interface ScriptedServer {
  readonly port: number;
  readonly requests: ServedRequest[];
  readonly connections: Set<Socket>;
  accepted: number;
  answer: (request: ServedRequest) => Answer | Promise<Answer>;
  /** Stops listening and ends the connections. */
  close(): Promise<void>;
}

const HEADER_BYTES = 6;

/** Serves on loopback; by default every register holds its own address and every bit is set. */
export async function serve(address: string, port = 0): Promise<ScriptedServer> {
  const listener: Server = createServer({ noDelay: true });
  const scripted: ScriptedServer = {
    port: 0,
    requests: [],
    connections: new Set(),
    accepted: 0,
    answer: addresses,
    async close() {
      for (const socket of scripted.connections) socket.destroy();
      listener.close();
      await once(listener, 'close');
    },
  };
  listener.on('connection', (socket) => {
    scripted.accepted += 1;
    scripted.connections.add(socket);
    let rest: Buffer = Buffer.alloc(0);
    socket.on('error', () => {});
    socket.on('close', () => scripted.connections.delete(socket));
    socket.on('data', (bytes) => {
      rest = Buffer.concat([rest, bytes]);
      while (rest.length >= HEADER_BYTES && rest.length >= HEADER_BYTES + rest.readUInt16BE(4)) {
        const end = HEADER_BYTES + rest.readUInt16BE(4);
        void respond(scripted, parse(rest.subarray(0, end), socket));
        rest = rest.subarray(end);
      }
    });
  });
  listener.listen(port, address);
  await once(listener, 'listening');
  return Object.assign(scripted, { port: (listener.address() as AddressInfo).port });
}

function parse(frame: Buffer, socket: Socket): ServedRequest {
  const pdu = frame.subarray(HEADER_BYTES + 1);
  return {
    transactionId: frame.readUInt16BE(0),
    unitId: frame[HEADER_BYTES] ?? 0,
    functionCode: pdu[0] ?? 0,
    address: pdu.length >= 3 ? pdu.readUInt16BE(1) : 0,
    quantity: pdu.length >= 5 ? pdu.readUInt16BE(3) : 0,
    pdu,
    socket,
    atMs: performance.now(),
  };
}

async function respond(scripted: ScriptedServer, request: ServedRequest): Promise<void> {
  scripted.requests.push(request);
  const answer = await scripted.answer(request);
  if (answer === undefined || request.socket.destroyed) return;
  request.socket.write('frame' in answer ? answer.frame : frameOf(request, answer.pdu));
}

/** A Modbus TCP frame; `fields` replace what belongs to the request. */
export function frameOf(
  request: ServedRequest,
  pdu: Buffer,
  fields: { transactionId?: number; unitId?: number; length?: number; protocolId?: number } = {},
): Buffer {
  const frame = Buffer.alloc(HEADER_BYTES + 1 + pdu.length);
  frame.writeUInt16BE(fields.transactionId ?? request.transactionId, 0);
  frame.writeUInt16BE(fields.protocolId ?? 0, 2);
  frame.writeUInt16BE(fields.length ?? pdu.length + 1, 4);
  frame.writeUInt8(fields.unitId ?? request.unitId, HEADER_BYTES);
  pdu.copy(frame, HEADER_BYTES + 1);
  return frame;
}

export function exception(request: ServedRequest, code: number): Answer {
  return { pdu: Buffer.from([request.functionCode | 0x80, code]) };
}

/** Registers hold their address, bits are set, writes are confirmed. */
export function addresses(request: ServedRequest): Answer {
  const { functionCode, address, quantity, pdu } = request;
  switch (functionCode) {
    case 1:
    case 2: {
      const bytes = Math.ceil(quantity / 8);
      return { pdu: Buffer.concat([Buffer.from([functionCode, bytes]), Buffer.alloc(bytes, 0xff)]) };
    }
    case 3:
    case 4: {
      const data = Buffer.alloc(2 + quantity * 2);
      data.writeUInt8(functionCode, 0);
      data.writeUInt8(quantity * 2, 1);
      for (let index = 0; index < quantity; index += 1) data.writeUInt16BE((address + index) & 0xffff, 2 + index * 2);
      return { pdu: data };
    }
    case 5:
    case 6:
    case 22:
      return { pdu };
    case 15:
    case 16:
      return { pdu: pdu.subarray(0, 5) };
    default:
      return exception(request, 1);
  }
}
