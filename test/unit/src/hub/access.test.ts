import { beforeEach, describe, expect, it } from 'vitest';
import type { LoginRequest } from '../../../../src/core/hub/access.ts';
import { makeSasToken } from '../../../../src/iothub/sas-token.ts';
import { hmacSha256 } from '../../../../src/platform/hmac.ts';
import { HOST, HUB, hubRig, refusalOf, type HubRig } from '../../../support/hub.ts';
import { waitFor } from '../../../support/wait.ts';

let rig: HubRig;
const d1 = { deviceId: 'd1' };

beforeEach(async () => {
  rig = await hubRig();
  await rig.hub.identities.putDevice(HUB, d1, undefined);
  await rig.hub.identities.putDevice(HUB, { deviceId: 'd2' }, undefined);
  await rig.hub.policiesOf(HUB).all();
});

function request(token: string, more: Partial<LoginRequest> = {}): LoginRequest {
  const credential = { kind: 'sas', token } as const;
  return { hostName: HOST, remoteAddress: '127.0.0.1', protocol: 'amqp', credential, ...more };
}

function policyToken(name: string, resource = HOST, form: 'base64' | 'text' = 'base64'): string {
  const policy = rig.hub.access.policies(HUB).find((one) => one.name === name);
  if (policy === undefined) throw new Error(`no policy ${name}`);
  const expiresAtMs = rig.clock.wallMs() + 60_000;
  return makeSasToken({ resource, key: policy.primaryKey, keyForm: form, policy: name, expiresAtMs }, { hmacSha256 });
}

const login = (token: string, more: Partial<LoginRequest> = {}) => rig.hub.access.login(request(token, more));

/** With another signature of the same length: a sign of Base64 that is escaped goes as a whole. */
const forged = (token: string): string =>
  token.replace(/sig=(%..|.)/, (_, first) => `sig=${first === 'A' ? 'B' : 'A'}`);

describe('access', () => {
  it('lets a device in by either key, claimed or named by the audience', async () => {
    for (const secondary of [false, true]) {
      const token = await rig.token(d1, { secondary });
      const expected = {
        hubId: HUB,
        kind: 'device',
        identity: d1,
        permissions: ['DeviceConnect'],
        scope: '/devices/d1',
      };
      expect(await login(token, { claimed: d1 })).toMatchObject(expected);
      expect(await login(token)).toMatchObject(expected);
      expect((await login(token)).grantedBy).toBe(`key:${secondary ? 'secondary' : 'primary'}:1`);
    }
  });

  it('refuses tokens that are expired, of another device, of another hub, or changed', async () => {
    const token = await rig.token(d1, { lifeMs: 60_000 });
    expect(await refusalOf(login(token, { claimed: { deviceId: 'd2' } }))).toBe('IotHubUnauthorizedAccess');
    expect(await refusalOf(login(forged(token), { claimed: d1 }))).toMatch(/Unauthorized/);
    expect(await refusalOf(login(token.replace('d1', 'd9')))).toBe('DeviceNotFound');
    const foreign = token.replace(HOST, 'else.where');
    expect(await refusalOf(login(foreign))).toBe('IotHubUnauthorizedAccess');
    const { expiresAtMs } = await login(token);
    rig.clock.advance(60_000 + 299_000);
    // The same end, whenever it came in.
    expect(await login(token)).toMatchObject({ expiresAtMs });
    rig.clock.advance(2000);
    expect(expiresAtMs).toBeLessThan(rig.clock.wallMs());
    expect(await refusalOf(login(token))).toBe('IotHubUnauthorizedAccess');
  });

  it('lets nobody in whose id is for the registry alone', async () => {
    for (const ref of [{ deviceId: 'a+b' }, { deviceId: 'a#' }, { deviceId: 'a;DeviceId=d1' }]) {
      await rig.hub.identities.putDevice(HUB, ref, undefined);
      expect(await refusalOf(rig.login(ref))).toBe('ArgumentInvalid');
      const path = `${HOST}/devices/${ref.deviceId}`;
      expect(await refusalOf(login(policyToken('iothubowner', path), { claimed: ref }))).toBe('ArgumentInvalid');
      expect(await refusalOf(login(policyToken('device', path)))).toBe('ArgumentInvalid');
    }
  });

  it('takes no key of a device for its module', async () => {
    const module = { ...d1, moduleId: 'm' };
    await rig.hub.identities.putModule(HUB, module, undefined);
    expect(await refusalOf(login(await rig.token(d1), { claimed: module }))).toBe('IotHubUnauthorizedAccess');
    expect(await login(await rig.token(module), { claimed: module })).toMatchObject({
      kind: 'module',
      identity: module,
    });
    await rig.hub.identities.putDevice(HUB, { ...d1, status: 'disabled' }, '*');
    expect(await refusalOf(login(await rig.token(module), { claimed: module }))).toBe('DeviceDisabled');
  });

  it('says that a device is disabled only to who knows its key', async () => {
    const token = await rig.token(d1);
    await rig.hub.identities.putDevice(HUB, { ...d1, status: 'disabled' }, '*');
    expect(await refusalOf(login(token))).toBe('DeviceDisabled');
    expect(await refusalOf(login(forged(token)))).toMatch(/Unauthorized/);
  });

  it('lets policies in with their rights', async () => {
    const owner = await login(policyToken('iothubowner'));
    expect(owner).toMatchObject({ kind: 'policy', policy: 'iothubowner', scope: '' });
    rig.hub.access.demand(owner, 'RegistryWrite', '/devices/d1');
    const service = await login(policyToken('service'));
    rig.hub.access.demand(service, 'ServiceConnect', '/messages/devicebound');
    expect(() => rig.hub.access.demand(service, 'RegistryRead')).toThrow("'service' does not allow");
    const limited = await login(policyToken('service', `sb://${HOST}/messages/events/$management`));
    expect(limited.scope).toBe('/messages/events/$management');
    expect(() => rig.hub.access.demand(limited, 'ServiceConnect', '/messages/devicebound')).toThrow('does not allow');
  });

  it('takes the text of a key where Event Hubs clients may sign with it', async () => {
    const token = policyToken('service', `sb://${HOST}/hub`, 'text');
    expect(await refusalOf(login(token))).toBe('IotHubUnauthorizedAccess');
    expect(await login(token, { keyForm: 'either' })).toMatchObject({ policy: 'service' });
    const other = login(token, { keyForm: 'either', resource: '/other' });
    expect(await refusalOf(other)).toBe('IotHubUnauthorizedAccess');
  });

  it('lets a policy with DeviceConnect stand in for a device', async () => {
    const all = policyToken('device', `${HOST}/devices`);
    expect(await login(all, { claimed: d1 })).toMatchObject({ kind: 'device', identity: d1, policy: 'device' });
    const one = policyToken('device', `${HOST}/devices/d1`);
    expect(await login(one)).toMatchObject({ kind: 'device', identity: d1 });
    expect(await refusalOf(login(one, { claimed: { deviceId: 'd2' } }))).toBe('IotHubUnauthorizedAccess');
    expect(await refusalOf(login(policyToken('service'), { claimed: d1 }))).toBe('IotHubUnauthorizedAccess');
  });

  it('takes what the SDK for C puts into skn for what it is', async () => {
    const token = `${await rig.token(d1)}&skn=d1`;
    expect(await login(token, { claimed: d1 })).toMatchObject({ kind: 'device', identity: d1 });
  });

  it('demands that a device stays with its own', async () => {
    const principal = await login(await rig.token(d1));
    rig.hub.access.demand(principal, 'DeviceConnect', '/devices/d1/messages/events');
    for (const resource of ['/devices/d2/messages/events', '/devices/D1', '/devices', '/messages/events']) {
      expect(() => rig.hub.access.demand(principal, 'DeviceConnect', resource), resource).toThrow('for d1 only');
    }
    expect(() => rig.hub.access.demand(principal, 'ServiceConnect')).toThrow('does not allow');
  });

  it('ends sessions of a policy whose key or right was taken', async () => {
    const open = async (name: string) =>
      rig.hub.sessions.open('test', {
        principal: await login(policyToken(name)),
        protocol: 'amqp',
        remoteAddress: '127.0.0.1',
        persistent: false,
      });
    const [service, owner] = [await open('service'), await open('iothubowner')];
    const keyBefore = rig.hub.access.policies(HUB)[0]?.primaryKey;
    await rig.hub.policiesOf(HUB).set([
      { name: 'iothubowner', permissions: ['RegistryRead', 'RegistryWrite', 'ServiceConnect', 'DeviceConnect'] },
      { name: 'service', permissions: ['RegistryRead'] },
    ]);
    const live = rig.hub.sessionsOf(HUB).map(({ sessionId }) => sessionId);
    expect(live).toEqual([owner.sessionId]);
    expect(live).not.toContain(service.sessionId);
    expect(rig.hub.access.policies(HUB)[0]?.primaryKey).toBe(keyBefore);
    await rig.hub.policiesOf(HUB).regenerate('iothubowner', 'primaryKey');
    expect(rig.hub.sessionsOf(HUB)).toEqual([]);
  });

  it('keeps the keys of policies over restarts', async () => {
    const again = await hubRig({ state: rig.state, clock: rig.clock });
    await again.hub.policiesOf(HUB).all();
    expect(again.hub.access.policies(HUB)).toEqual(rig.hub.access.policies(HUB));
  });

  it('tells who was refused, from where and why, and nothing secret', async () => {
    const told: unknown[] = [];
    const telemetry = { emit: (name: string, fields?: object) => void told.push({ name, ...fields }) };
    const again = await hubRig({ state: rig.state, clock: rig.clock, telemetry });
    const wrong = forged(await rig.token(d1));
    const long = { deviceId: 'x'.repeat(60_000) };
    for (const more of [{ claimed: d1 }, {}, { claimed: { policy: 'nope' } }, { claimed: long }]) {
      await refusalOf(again.hub.access.login(request(wrong, { remoteAddress: '192.0.2.7', ...more })));
    }
    const line = { name: 'hub_login_refused', protocol: 'amqp', remoteAddress: '192.0.2.7' };
    const reason = 'IotHubUnauthorizedAccess';
    expect(told).toMatchObject([
      { ...line, reason, identity: 'd1' },
      { ...line, reason, identity: `${HOST}%2Fdevices%2Fd1` },
      { ...line, reason, identity: 'policy nope' },
      { ...line, identity: 'x'.repeat(300) },
    ]);
    expect(JSON.stringify(told)).not.toContain('sig=');
  });

  it('answers guesses later and later, and lets the right key in all the same', async () => {
    const wrong = forged(await rig.token(d1));
    for (let count = 0; count < 4; count += 1) await refusalOf(login(wrong, { claimed: d1 }));
    let answered = 0;
    const delays: number[] = [];
    for (let count = 0; count < 4; count += 1) {
      const refused = refusalOf(login(wrong, { claimed: d1 })).then(() => {
        answered += 1;
      });
      await waitFor(() => rig.hub.stats().delayedRefusals === 1);
      const before = answered;
      let waited = 0;
      while (answered === before) {
        rig.clock.advance(50);
        waited += 50;
        await new Promise((resolve) => setImmediate(resolve));
      }
      await refused;
      delays.push(waited);
    }
    expect(delays).toEqual([250, 500, 1000, 2000]);
    const slow = refusalOf(login(wrong, { claimed: d1 }));
    await waitFor(() => rig.hub.stats().delayedRefusals === 1);
    expect(await login(await rig.token(d1), { claimed: d1 })).toMatchObject({ identity: d1 });
    rig.clock.advance(60_000);
    expect(await slow).toMatch(/Unauthorized/);
  });
});
