import { beforeEach, describe, expect, it } from 'vitest';
import type { MethodCall } from '../../../../src/core/hub/messaging.ts';
import { HUB, hubRig, refusalOf, type HubRig } from '../../../support/hub.ts';
import { waitFor } from '../../../support/wait.ts';

let rig: HubRig;
const d1 = { deviceId: 'd1' };

beforeEach(async () => {
  rig = await hubRig();
  await rig.hub.identities.putDevice(HUB, d1, undefined);
});

function invoke(more: Partial<MethodCall> = {}, signal?: AbortSignal) {
  const call = {
    name: 'reboot',
    payload: Buffer.from('{"in":5}'),
    responseTimeoutMs: 30_000,
    connectTimeoutMs: 0,
    ...more,
  };
  return rig.hub.methods.invoke(HUB, d1, call, signal);
}

const requests = () => rig.sent.flatMap((item) => (item.kind === 'method' ? [item] : []));

describe('direct methods', () => {
  it('asks the device and gives its answer back', async () => {
    const { sessionId } = await rig.connect(d1, { interests: ['methods'] });
    const answer = invoke();
    const [request] = await waitFor(() => requests().length > 0 && requests());
    expect(request).toMatchObject({ sessionId, name: 'reboot', payload: Buffer.from('{"in":5}') });
    const other = await rig.hub.identities.putDevice(HUB, { deviceId: 'd2' }, undefined);
    const stranger = await rig.connect({ deviceId: other.deviceId });
    rig.hub.methods.answer(stranger.sessionId, request?.requestId ?? '', { status: 1, payload: Buffer.from('1') });
    rig.hub.methods.answer(sessionId, request?.requestId ?? '', { status: 200, payload: Buffer.from('"ok"') });
    rig.hub.methods.answer(sessionId, request?.requestId ?? '', { status: 500, payload: Buffer.from('late') });
    expect(await answer).toEqual({ status: 200, payload: Buffer.from('"ok"') });
    expect(rig.hub.stats().methodsInFlight).toBe(0);
  });

  it('tells unknown, absent and silent devices apart', async () => {
    const call = { name: 'x', payload: Buffer.alloc(0), responseTimeoutMs: 5000, connectTimeoutMs: 0 };
    expect(await refusalOf(rig.hub.methods.invoke(HUB, { deviceId: 'no' }, call))).toBe('DeviceNotFound');
    expect(await refusalOf(invoke())).toBe('DeviceNotOnline');
    const { sessionId } = await rig.connect(d1, { interests: ['commands'] });
    expect(await refusalOf(invoke())).toBe('DeviceNotOnline');
    rig.hub.sessions.setInterests(sessionId, ['methods']);
    const silent = refusalOf(invoke({ responseTimeoutMs: 5000 }));
    await waitFor(() => requests().length === 1);
    rig.clock.advance(5000);
    expect(await silent).toBe('GatewayTimeout');
    const lost = refusalOf(invoke());
    await waitFor(() => requests().length === 2);
    rig.hub.sessions.close(sessionId, 'lost');
    expect(await lost).toBe('DeviceConnectionClosedRemotely');
  });

  it('waits for the device to appear as long as it is allowed to', async () => {
    const late = refusalOf(invoke({ connectTimeoutMs: 10_000 }));
    await waitFor(() => rig.hub.stats().methodsInFlight === 1);
    await new Promise((resolve) => setImmediate(resolve));
    rig.clock.advance(10_000);
    expect(await late).toBe('DeviceNotOnline');
    const answer = invoke({ connectTimeoutMs: 10_000 });
    await waitFor(() => rig.hub.stats().methodsInFlight === 1);
    const { sessionId } = await rig.connect(d1, { interests: ['methods'] });
    const [request] = await waitFor(() => requests().length > 0 && requests());
    rig.hub.methods.answer(sessionId, request?.requestId ?? '', { status: 200, payload: Buffer.alloc(0) });
    expect((await answer).status).toBe(200);
  });

  it('waits for nobody who is deleted meanwhile, nor for its modules', async () => {
    const m1 = { ...d1, moduleId: 'm1' };
    const other = { deviceId: 'd10' };
    await rig.hub.identities.putModule(HUB, m1, undefined);
    await rig.hub.identities.putDevice(HUB, other, undefined);
    const call = { name: 'x', payload: Buffer.alloc(0), responseTimeoutMs: 5000, connectTimeoutMs: 10_000 };
    const waiting = [d1, m1].map((ref) => refusalOf(rig.hub.methods.invoke(HUB, ref, call)));
    const patient = refusalOf(rig.hub.methods.invoke(HUB, other, call));
    await waitFor(() => rig.hub.stats().methodsInFlight === 3);
    await new Promise((resolve) => setImmediate(resolve));
    await rig.hub.identities.deleteDevice(HUB, 'd1', '*');
    expect(await Promise.all(waiting)).toEqual(['DeviceNotFound', 'ModuleNotFound']);
    expect(rig.hub.stats().methodsInFlight).toBe(1);
    rig.clock.advance(10_000);
    expect(await patient).toBe('DeviceNotOnline');
  });

  it('stops waiting when the caller goes', async () => {
    const gone = new AbortController();
    const waiting = invoke({ connectTimeoutMs: 10_000 }, gone.signal);
    await waitFor(() => rig.hub.stats().methodsInFlight === 1);
    gone.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'GW_ABORTED' });
    expect(rig.hub.stats().methodsInFlight).toBe(0);
  });

  it('refuses bad names, timeouts and sizes, and too many at once', async () => {
    for (const more of [
      { name: '' },
      { name: 'a b' },
      { name: 'a/b' },
      { responseTimeoutMs: 4999 },
      { responseTimeoutMs: 300_001 },
      { connectTimeoutMs: -1 },
      { responseTimeoutMs: Number.NaN },
    ]) {
      expect(await refusalOf(invoke(more)), JSON.stringify(more)).toBe('ArgumentInvalid');
    }
    expect(await refusalOf(invoke({ payload: Buffer.alloc(131_073) }))).toBe('MessageTooLarge');
    const gone = new AbortController();
    const calls = Array.from({ length: 33 }, () => refusalOf(invoke({ connectTimeoutMs: 1000 }, gone.signal)));
    expect(await calls[32]).toBe('DeviceMaximumInflightMethodExceeded');
    gone.abort();
    await Promise.all(calls);
  });
});
