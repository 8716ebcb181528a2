// Inner values as plain JSON for people and programs.

import { isUtf8 } from 'node:buffer';
import type {
  DeviceView,
  EndpointView,
  JsonValue,
  MessageView,
  PointView,
  QuarantinedView,
  WriteView,
} from '../core/admin.ts';
import type { WriteResult } from '../core/adapter.ts';
import type { Clock } from '../core/clock.ts';
import type { StoredMessage } from '../core/message.ts';
import type { QuarantinedMessage } from '../core/outbox.ts';
import { qualityText, type PointValue } from '../core/reading.ts';
import { isoTime, type Timestamp } from '../core/time.ts';
import type { RegisteredDevice } from '../devices/device-registry.ts';
import type { PointState } from '../devices/point-cache.ts';
import type { EndpointStatus } from '../upstream/endpoint-runner.ts';

/** As in messages: integers beyond 2^53-1 are strings, bytes are hexadecimal. */
export function jsonValue(value: PointValue): JsonValue {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : value.toString();
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  return value;
}

/** Age in ms; by the monotonic clock within a boot, else by the wall clock; never negative. */
function ageMs(time: Timestamp, clock: Clock): number {
  const age = time.bootId === clock.bootId ? clock.monotonicMs() - time.monotonicMs : clock.wallMs() - time.wallMs;
  return Math.max(0, Math.round(age));
}

export function pointView(state: PointState, clock: Clock): PointView {
  const { info, value, quality, time, lastGood } = state;
  return {
    point: info.name,
    ...(value === undefined ? {} : { value: jsonValue(value) }),
    quality: quality === undefined ? 'unknown' : qualityText(quality),
    ...(info.unit === undefined ? {} : { unit: info.unit }),
    address: info.address,
    writable: info.writable,
    ...(time === undefined ? {} : { time: isoTime(time.wallMs), ageMs: ageMs(time, clock) }),
    ...(lastGood === undefined ? {} : { goodAgeMs: ageMs(lastGood, clock) }),
  };
}

export function deviceView(device: RegisteredDevice, points: readonly PointState[], clock: Clock): DeviceView {
  return {
    deviceId: device.deviceId,
    adapterId: device.adapterId,
    state: device.state,
    ...(device.reason === undefined ? {} : { reason: device.reason }),
    stateAgeMs: ageMs(device.since, clock),
    points: points.map((point) => pointView(point, clock)),
  };
}

export function endpointView(type: string, status: EndpointStatus, hint: string | undefined): EndpointView {
  const reason = status.reason ?? status.pausedReason ?? status.note;
  return {
    name: status.name,
    type,
    target: status.target,
    state: status.state,
    connected: status.state === 'connected',
    ...(reason === undefined ? {} : { reason }),
    stateAgeMs: Math.round(status.stateMs),
    ...(hint === undefined ? {} : { hint }),
  };
}

export function messageView(stored: StoredMessage): MessageView {
  const { message } = stored;
  const body = Buffer.from(message.body.buffer, message.body.byteOffset, message.body.byteLength);
  return {
    offset: stored.offset,
    seq: stored.seq,
    epoch: stored.epoch,
    messageId: stored.messageId,
    deviceId: message.deviceId,
    time: isoTime(message.time.wallMs),
    clock: message.time.clock,
    properties: message.properties,
    systemProperties: { ...message.systemProperties },
    bodyBytes: body.byteLength,
    ...(isUtf8(body) ? { body: body.toString('utf8') } : { bodyBase64: body.toString('base64') }),
  };
}

export function quarantinedView(entry: QuarantinedMessage): QuarantinedView {
  return {
    id: entry.id,
    queue: entry.queue,
    reason: entry.reason,
    at: isoTime(entry.atMs),
    message: messageView(entry.stored),
  };
}

export function writeView(result: WriteResult): WriteView {
  return {
    ...(result.readBack === undefined ? {} : { readBack: jsonValue(result.readBack) }),
    quality: qualityText(result.quality),
  };
}
