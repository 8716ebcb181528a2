import { describe, expect, it } from 'vitest';
import { CommandLink } from '../../../../modules/hub-amqp/command-link.ts';
import type { AmqpSender, Hub } from '../../../../src/sdk/index.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

/** A link with credit, and what the hub was told that the device takes. */
function opened(capacity: number): {
  readonly link: { capacity: number; onCapacity: () => void };
  readonly commands: CommandLink;
  readonly granted: number[];
} {
  const granted: number[] = [];
  const hub = { sessions: { grantCommands: (_: string, credit: number) => void granted.push(credit) } };
  const link = { capacity, onCapacity: () => {} };
  const commands = new CommandLink(link as unknown as AmqpSender, {
    hub: hub as unknown as Hub,
    hubId: 'hub',
    ref: { deviceId: 'd1' },
    sessionId: 's1',
    clock: new ManualClock(),
  });
  return { link, commands, granted };
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
});
