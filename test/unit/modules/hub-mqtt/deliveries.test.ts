import { describe, expect, it } from 'vitest';
import { Deliveries, type DeliveriesOptions } from '../../../../modules/hub-mqtt/deliveries.ts';
import { Subscriptions } from '../../../../modules/hub-mqtt/subscriptions.ts';
import type { DeliveredCommand } from '../../../../src/sdk/index.ts';

const COMMAND: DeliveredCommand = {
  lockToken: 't1',
  lockedUntilMs: 60_000,
  sequenceNumber: 1,
  deliveryCount: 0,
  enqueuedTimeMs: 0,
  expiresAtMs: 1000,
  message: { body: Buffer.from('on'), properties: {}, ack: 'none' },
};

describe('what the hub sends to a device over MQTT', () => {
  it('takes no place of a client that has unsubscribed while a command was on its way', () => {
    const granted: number[] = [];
    const written: Buffer[] = [];
    const ref = { deviceId: 'd1' };
    const sessions = { grantCommands: (_: string, credit: number) => void granted.push(credit) };
    const deliveries = new Deliveries({
      context: { hub: { sessions } },
      sessionId: 's1',
      ref,
      subscriptions: new Subscriptions(ref),
      leftIds: undefined,
      write: (bytes: Buffer) => void written.push(bytes),
    } as unknown as DeliveriesOptions);
    deliveries.deliver({ kind: 'command', sessionId: 's1', command: COMMAND });
    expect(written).toEqual([]);
    expect(granted).toEqual([1]);
  });
});
