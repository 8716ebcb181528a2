// What tests of the MQTT adapter share: a context that records, and an outbox that can be told to refuse.

import type { AdapterContext } from '../../../../src/core/adapter.ts';
import { type DeviceState, parseDeviceId } from '../../../../src/core/device.ts';
import type { Logger } from '../../../../src/core/log.ts';
import type { Message } from '../../../../src/core/message.ts';
import type { ReadingBatch } from '../../../../src/core/reading.ts';
import { memorySpace } from '../../../support/state.ts';
import { SystemClock } from '../../../../src/platform/clock.ts';

export const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => SILENT };

export interface Recording {
  readonly context: AdapterContext;
  readonly messages: Message[];
  readonly batches: ReadingBatch[];
  readonly states: Map<string, DeviceState>;
  readonly refusals: string[];
  /** The newest value of a point. */
  value(device: string, point: string): unknown;
}

export function record(fields: Partial<AdapterContext> = {}): Recording {
  const messages: Message[] = [];
  const batches: ReadingBatch[] = [];
  const states = new Map<string, DeviceState>();
  const refusals: string[] = [];
  const context: AdapterContext = {
    adapterId: 'field-broker',
    gatewayId: parseDeviceId('gateway-1'),
    clock: new SystemClock(),
    log: SILENT,
    // No directory, and none can be made there.
    dataDirectory: '/dev/null',
    captureDirectory: '',
    state: memorySpace(),
    publishReadings: (batch) => void batches.push(batch),
    publishMessages: (added) => Promise.resolve(void messages.push(...added)),
    storeReadings: (batch) => Promise.resolve(void batches.push(batch)),
    addDevice: () => undefined,
    reportRefusal: (reason) => void refusals.push(reason),
    ready: () => Promise.resolve(),
    reportDevice: (device, state) => void states.set(device, state),
    reportExchange() {},
    reportPoll() {},
    ...fields,
  };
  return {
    context,
    messages,
    batches,
    states,
    refusals,
    value: (device, point) =>
      batches
        .findLast(
          ({ deviceId, readings }) => deviceId === device && readings.some((reading) => reading.point === point),
        )
        ?.readings.findLast((reading) => reading.point === point)?.value,
  };
}
