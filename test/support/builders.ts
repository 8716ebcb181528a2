// Small values for tests.

import { parseDeviceId } from '../../src/core/device.ts';
import type { Message } from '../../src/core/message.ts';
import type { Timestamp } from '../../src/core/time.ts';

export function timestamp(fields: Partial<Timestamp> = {}): Timestamp {
  return {
    bootId: 'boot-1',
    monotonicMs: 1000,
    wallMs: Date.UTC(2026, 0, 2, 3, 4, 5, 678),
    clock: 'synced',
    ...fields,
  };
}

export function message(fields: Partial<Message> & { device?: string; text?: string } = {}): Message {
  const { device = 'meter-1', text = 'body', ...rest } = fields;
  return {
    deviceId: parseDeviceId(device),
    body: Buffer.from(text),
    properties: {},
    systemProperties: {},
    time: timestamp(),
    ...rest,
  };
}
