import { describe, expect, it } from 'vitest';
import { followSessions } from '../../../../modules/upstream-iothub/session-presence.ts';
import { parseDeviceId, type DeviceId } from '../../../../src/core/device.ts';
import { GatewayError } from '../../../../src/core/errors.ts';
import type { SessionDevices } from '../../../../src/core/session-devices.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { waitFor } from '../../../support/wait.ts';

const [d1, d2, stranger] = ['d1', 'd2', 'stranger'].map(parseDeviceId) as [DeviceId, DeviceId, DeviceId];

function rig() {
  const clock = new ManualClock();
  const ended = new AbortController();
  const connected = new Set<DeviceId>([d1]);
  const listeners = new Set<(deviceId: DeviceId) => void>();
  const log: string[] = [];
  const lose = new Map<DeviceId, () => void>();
  let refusal: GatewayError | undefined;
  const sessions = {
    wanted: () => [...connected],
    isWanted: (deviceId: DeviceId) => connected.has(deviceId),
    watch: (listener: (deviceId: DeviceId) => void) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  } as unknown as SessionDevices;
  followSessions({
    sessions,
    isItself: (deviceId) => Promise.resolve(deviceId !== stranger),
    reach: (deviceId) => {
      log.push(`reach ${deviceId}`);
      if (refusal !== undefined) return Promise.reject(refusal);
      const { promise, resolve } = Promise.withResolvers<void>();
      lose.set(deviceId, resolve);
      return Promise.resolve({ closed: promise, refresh: () => void log.push(`refresh ${deviceId}`) });
    },
    clock,
    signal: ended.signal,
  });
  return {
    clock,
    ended,
    connected,
    listeners,
    log,
    tell: (deviceId: DeviceId) => listeners.forEach((listener) => listener(deviceId)),
    lose: (deviceId: DeviceId) => lose.get(deviceId)?.(),
    refuse: (error: GatewayError | undefined) => (refusal = error),
  };
}

describe('links for the sessions of the local hub', () => {
  it('are opened for those that are there and those that come, and follow what they take', async () => {
    const { log, connected, tell } = rig();
    await waitFor(() => log.length === 2);
    connected.add(d2).add(stranger);
    tell(d2);
    tell(stranger);
    await waitFor(() => log.length === 4);
    tell(d2);
    expect(log).toEqual(['reach d1', 'refresh d1', 'reach d2', 'refresh d2', 'refresh d2']);
  });

  it('are opened again while the device is there, and not afterwards', async () => {
    const { log, connected, tell, lose, clock } = rig();
    await waitFor(() => log.length === 2);
    lose(d1);
    await waitFor(() => clock.waiting === 1);
    clock.advance(1000);
    await waitFor(() => log.length === 4);
    connected.delete(d1);
    tell(d1);
    lose(d1);
    await waitFor(() => clock.waiting === 1);
    clock.advance(1000);
    await waitFor(() => clock.waiting === 0);
    expect(log).toEqual(['reach d1', 'refresh d1', 'reach d1', 'refresh d1', 'refresh d1']);
    connected.add(d1);
    tell(d1);
    await waitFor(() => log.length === 7);
  });

  it('of one that is refused wait for a minute', async () => {
    const { log, connected, tell, refuse, clock } = rig();
    await waitFor(() => log.length === 2);
    refuse(new GatewayError('GW_UNAUTHORIZED', 'No such device.'));
    connected.add(d2);
    tell(d2);
    await waitFor(() => clock.waiting === 1);
    clock.advance(59_000);
    expect(log.filter((one) => one === 'reach d2')).toHaveLength(1);
    refuse(undefined);
    clock.advance(1000);
    await waitFor(() => log.at(-1) === 'refresh d2');
  });

  it('end with the connection of the gateway', async () => {
    const { listeners, ended } = rig();
    ended.abort();
    await waitFor(() => listeners.size === 0);
  });
});
