import { beforeEach, describe, expect, it } from 'vitest';
import { HOST, HUB, hubRig, refusalOf, type HubRig } from '../../../support/hub.ts';
import { waitFor } from '../../../support/wait.ts';

let rig: HubRig;
const d1 = { deviceId: 'd1' };

beforeEach(async () => {
  rig = await hubRig();
  await rig.hub.identities.putDevice(HUB, d1, undefined);
});

/** The reason with which a session was ended, once its head was told. */
function ended(sessionId: string): Promise<string> {
  return waitFor(() =>
    rig.sent.flatMap((item) => (item.kind === 'end' && item.sessionId === sessionId ? [item.reason] : [])).at(0),
  );
}

describe('sessions', () => {
  it('shows a device as connected while it has one, and remembers when it went', async () => {
    const { sessionId } = await rig.connect(d1);
    expect(await rig.hub.identities.device(HUB, 'd1')).toMatchObject({ connectionState: 'Connected' });
    expect(await rig.hub.identities.statistics(HUB)).toMatchObject({ connectedDeviceCount: 1 });
    rig.clock.advance(10_000);
    rig.hub.sessions.touch(sessionId);
    rig.clock.advance(1000);
    rig.hub.sessions.close(sessionId, 'lost');
    rig.hub.sessions.close(sessionId, 'lost');
    const gone = await rig.hub.identities.device(HUB, 'd1');
    expect(gone.connectionState).toBe('Disconnected');
    expect(Date.parse(gone.connectionStateUpdatedTime) - Date.parse(gone.lastActivityTime)).toBe(1000);
    await rig.hub.stop();
    const reopened = await hubRig({ state: rig.state, clock: rig.clock });
    expect(await reopened.hub.identities.device(HUB, 'd1')).toEqual(gone);
  });

  it('remembers when a device was heard over HTTPS, where there is no session', async () => {
    const credential = { kind: 'sas', token: await rig.token(d1) } as const;
    const request = { hostName: HOST, remoteAddress: '::1', protocol: 'https', credential, claimed: d1 } as const;
    const activity = async (): Promise<number> =>
      Date.parse((await rig.hub.identities.device(HUB, 'd1')).lastActivityTime) - rig.clock.wallMs();
    await rig.hub.access.login(request);
    expect(await activity()).toBe(0);
    rig.clock.advance(400_000);
    expect(await activity()).toBe(-400_000);
    await rig.hub.access.login(request);
    expect(await activity()).toBe(0);
    expect(await rig.hub.identities.device(HUB, 'd1')).toMatchObject({ connectionState: 'Disconnected' });
    await rig.hub.stop();
    rig = await hubRig({ state: rig.state, clock: rig.clock });
    expect(await activity()).toBe(0);
    const back = { ...request, credential: { kind: 'sas', token: await rig.token(d1) } } as const;
    await rig.hub.access.login(back);
    await rig.hub.identities.deleteDevice(HUB, 'd1', '*');
    const anew = await rig.hub.identities.putDevice(HUB, d1, undefined);
    expect(anew.lastActivityTime).toBe('0001-01-01T00:00:00Z');
    expect((await rig.hub.identities.device(HUB, 'd1')).lastActivityTime).toBe('0001-01-01T00:00:00Z');
  });

  it('lets the last one win, whatever its protocol, and spares modules', async () => {
    await rig.hub.identities.putModule(HUB, { ...d1, moduleId: 'm' }, undefined);
    const module = await rig.connect({ ...d1, moduleId: 'm' });
    const first = await rig.connect(d1);
    const second = await rig.connect(d1);
    expect(await ended(first.sessionId)).toBe('displaced');
    expect(rig.hub.sessionsOf(HUB).map(({ sessionId }) => sessionId)).toEqual([module.sessionId, second.sessionId]);
    expect(await rig.hub.identities.statistics(HUB)).toMatchObject({ connectedDeviceCount: 1 });
    // Sessions of policies stand beside each other.
  });

  it('ends a session with its token, and not when the token was renewed', async () => {
    const one = await rig.connect(d1, { token: await rig.token(d1, { lifeMs: 60_000 }) });
    rig.clock.advance(30_000);
    const renewed = await rig.login(d1, await rig.token(d1, { lifeMs: 60_000 }));
    rig.hub.sessions.renew(one.sessionId, renewed);
    // Five minutes of tolerance count for sessions as they do for log-ins.
    rig.clock.advance(45_000 + 300_000);
    expect(rig.hub.sessionsOf(HUB)).toHaveLength(1);
    rig.clock.advance(17_000);
    expect(await ended(one.sessionId)).toBe('expired');
    expect(() => rig.hub.sessions.renew(one.sessionId, renewed)).toThrow('over');
  });

  it('refuses to renew with the token of another', async () => {
    await rig.hub.identities.putDevice(HUB, { deviceId: 'd2' }, undefined);
    const { sessionId } = await rig.connect(d1);
    const other = await rig.login({ deviceId: 'd2' });
    expect(() => rig.hub.sessions.renew(sessionId, other)).toThrow('another identity');
  });

  it.each([
    ['disabled', () => rig.hub.identities.putDevice(HUB, { ...d1, status: 'disabled' }, '*')],
    ['deleted', () => rig.hub.identities.deleteDevice(HUB, 'd1', '*')],
    ['credential_revoked', () => rig.hub.identities.regenerateKeys(HUB, d1, 'primaryKey')],
    [
      'credential_revoked',
      () =>
        rig.hub.identities.putDevice(
          HUB,
          { ...d1, authentication: { type: 'selfSigned', x509Thumbprint: { primaryThumbprint: 'A'.repeat(40) } } },
          '*',
        ),
    ],
  ])('ends them at once: %s', async (reason, change) => {
    const { sessionId, principal } = await rig.connect(d1);
    await change();
    expect(await ended(sessionId)).toBe(reason);
    expect(rig.hub.sessionsOf(HUB)).toEqual([]);
    const again = rig.hub.sessions.open('test', {
      principal,
      protocol: 'mqtt',
      remoteAddress: '127.0.0.1',
      persistent: false,
    });
    expect(await refusalOf(again)).toBe(reason === 'disabled' ? 'DeviceDisabled' : 'IotHubUnauthorizedAccess');
  });

  it('spares who came with the other key, and ends modules with their device', async () => {
    await rig.hub.identities.putModule(HUB, { ...d1, moduleId: 'm' }, undefined);
    const module = await rig.connect({ ...d1, moduleId: 'm' });
    const { sessionId } = await rig.connect(d1, { token: await rig.token(d1, { secondary: true }) });
    await rig.hub.identities.regenerateKeys(HUB, d1, 'primaryKey');
    await rig.hub.identities.putDevice(HUB, { ...d1, statusReason: 'x' }, '*');
    expect(rig.hub.sessionsOf(HUB)).toHaveLength(2);
    await rig.hub.identities.putDevice(HUB, { ...d1, status: 'disabled' }, '*');
    expect(await ended(sessionId)).toBe('disabled');
    expect(await ended(module.sessionId)).toBe('disabled');
  });

  it('keeps what a persistent session keeps, over restarts, until one begins anew', async () => {
    const first = await rig.connect(d1, { persistent: true });
    expect(first.kept).toBeUndefined();
    await rig.hub.sessions.keep(first.sessionId, { filters: ['a/#'] });
    await rig.hub.stop();
    const later = await hubRig({ state: rig.state, clock: rig.clock });
    expect((await later.connect(d1, { persistent: true })).kept).toEqual({ filters: ['a/#'] });
    expect((await later.connect(d1)).kept).toBeUndefined();
    expect((await later.connect(d1, { persistent: true })).kept).toBeUndefined();
    await later.hub.sessions.keep((await later.connect(d1, { persistent: true })).sessionId, { filters: ['b'] });
    await later.hub.identities.deleteDevice(HUB, 'd1', '*');
    await later.hub.identities.putDevice(HUB, d1, undefined);
    expect((await later.connect(d1, { persistent: true })).kept).toBeUndefined();
  });

  it('ends all when the hub stops', async () => {
    const { sessionId } = await rig.connect(d1);
    await rig.hub.stop();
    expect(await ended(sessionId)).toBe('stopping');
  });
});
