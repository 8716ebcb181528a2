import { describe, expect, it } from 'vitest';
import { CommandLink } from '../../../../modules/hub-amqp/command-link.ts';
import type { AmqpSender, DeliveredCommand, Hub } from '../../../../src/sdk/index.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

/** A link with credit, and what the hub was told that the device takes. */
function opened(capacity: number): {
  readonly link: { capacity: number; onCapacity: () => void };
  readonly commands: CommandLink;
  readonly granted: number[];
  readonly sent: Buffer[];
  readonly clock: ManualClock;
} {
  const granted: number[] = [];
  const sent: Buffer[] = [];
  const clock = new ManualClock();
  const hub = { sessions: { grantCommands: (_: string, credit: number) => void granted.push(credit) } };
  const link = {
    capacity,
    onCapacity: () => {},
    send(bytes: Buffer) {
      sent.push(bytes);
      link.capacity -= 1;
      return {};
    },
  };
  const commands = new CommandLink(link as unknown as AmqpSender, {
    hub: hub as unknown as Hub,
    hubId: 'hub',
    ref: { deviceId: 'd1' },
    sessionId: 's1',
    clock,
  });
  return { link, commands, granted, sent, clock };
}

function command(clock: ManualClock, sequenceNumber: number): DeliveredCommand {
  return {
    lockToken: `00000000-0000-0000-0000-00000000000${sequenceNumber}`,
    lockedUntilMs: clock.monotonicMs() + 60_000,
    sequenceNumber,
    deliveryCount: 0,
    enqueuedTimeMs: 0,
    expiresAtMs: 1e12,
    message: { body: Buffer.from('on'), properties: {}, ack: 'none' },
  };
}

describe('the link of cloud-to-device messages', () => {
  it('tells the hub of credit that came before it was opened', () => {
    const { link, granted } = opened(1000);
    expect(granted).toEqual([50]);
    link.onCapacity();
    expect(granted).toEqual([50]);
  });

  it('tells the hub of credit that comes later', () => {
    const { link, granted } = opened(0);
    expect(granted).toEqual([]);
    link.capacity = 1;
    link.onCapacity();
    expect(granted).toEqual([1]);
  });

  it('takes back what it was granted when it closes', () => {
    const { link, commands, granted, clock } = opened(100);
    commands.deliver(command(clock, 1));
    expect(granted).toEqual([50, 1]);
    commands.close();
    link.onCapacity();
    expect(granted).toEqual([50, 1, -50]);
  });

  it('takes back what it was granted when the device does, and sends nothing whose lock is over', () => {
    const { link, commands, granted, sent, clock } = opened(3);
    commands.deliver(command(clock, 1));
    link.capacity = 0;
    // On its way meanwhile.
    commands.deliver(command(clock, 2));
    expect(granted).toEqual([3, -1]);
    clock.advance(60_000);
    link.capacity = 2;
    link.onCapacity();
    expect(sent.length).toBe(1);
    commands.deliver(command(clock, 2));
    expect(sent.length).toBe(2);
    expect(granted).toEqual([3, -1, 2]);
  });
});
