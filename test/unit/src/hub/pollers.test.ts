import { describe, expect, it } from 'vitest';
import type { DeliveredCommand } from '../../../../src/core/hub/session.ts';
import { LIMITS } from '../../../../src/core/limits.ts';
import { createPollers } from '../../../../src/hub/pollers.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const HUB = 'hub';

function rig() {
  const clock = new ManualClock();
  const log: string[] = [];
  const queue: DeliveredCommand[] = [];
  const reached = Promise.withResolvers<void>();
  const pollers = createPollers({
    hubId: HUB,
    receive: () => Promise.resolve(queue.shift()),
    isOfCloud: (deviceId) => Promise.resolve(deviceId.startsWith('cloud')),
    reached: () => reached.promise,
    onListening: (deviceId) => void log.push(deviceId),
    clock,
  });
  const put = (lockToken: string): void => void queue.push({ lockToken } as DeliveredCommand);
  return { clock, log, pollers, put, reached };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('devices that ask for their messages over HTTPS', () => {
  it('listen for a minute after each time', async () => {
    const { clock, log, pollers } = rig();
    await pollers.receive(HUB, 'local');
    clock.advance(59_000);
    await pollers.receive(HUB, 'local');
    clock.advance(59_000);
    expect([pollers.isListening('local'), pollers.listening(), log]).toEqual([true, ['local'], ['local']]);
    clock.advance(1000);
    expect([pollers.isListening('local'), pollers.listening()]).toEqual([false, []]);
    await pollers.receive(HUB, 'local');
    await pollers.receive('another hub', 'elsewhere');
    expect(log).toEqual(['local', 'local']);
  });

  it('are given the first time what comes from the cloud a moment later', async () => {
    const { pollers, put, reached } = rig();
    const asked = pollers.receive(HUB, 'cloud-1');
    await turn();
    put('a');
    pollers.arrived('cloud-1');
    expect(await asked).toEqual({ lockToken: 'a' });
    reached.resolve();
  });

  it('wait no longer than it takes to reach the cloud and a second, and only the first time', async () => {
    const { clock, pollers, reached } = rig();
    let isOver = false;
    const asked = pollers.receive(HUB, 'cloud-1').then((command) => {
      isOver = true;
      return command;
    });
    expect(await pollers.receive(HUB, 'cloud-1')).toBeUndefined();
    await turn();
    clock.advance(4000);
    await turn();
    expect(isOver).toBe(false);
    reached.resolve();
    await turn();
    clock.advance(1000);
    expect(await asked).toBeUndefined();
  });

  it('are so many at most', async () => {
    const { pollers } = rig();
    for (let count = 0; count <= LIMITS.hub_polling_devices; count += 1) await pollers.receive(HUB, `d${count}`);
    expect(pollers.listening()).toHaveLength(LIMITS.hub_polling_devices);
    expect(pollers.isListening('d0')).toBe(false);
  });
});
