import { beforeEach, describe, expect, it } from 'vitest';
import type { DeviceIdentityInput } from '../../../../src/core/hub/identity.ts';
import { HUB, hubRig, refusalOf, type HubRig } from '../../../support/hub.ts';

let rig: HubRig;

beforeEach(async () => {
  rig = await hubRig();
});

describe('identity registry', () => {
  it('creates a device with keys, and its twin in the same write', async () => {
    const device = await rig.hub.identities.putDevice(HUB, { deviceId: 'd1' }, undefined);
    expect(device).toMatchObject({
      deviceId: 'd1',
      status: 'enabled',
      connectionState: 'Disconnected',
      connectionStateUpdatedTime: '0001-01-01T00:00:00Z',
      cloudToDeviceMessageCount: 0,
      capabilities: { iotEdge: false },
      parentScopes: [],
    });
    expect(device.authentication).toMatchObject({ type: 'sas' });
    if (device.authentication.type !== 'sas') throw new Error('no keys');
    const { primaryKey, secondaryKey } = device.authentication.symmetricKey;
    expect(Buffer.from(primaryKey, 'base64')).toHaveLength(32);
    expect(secondaryKey).not.toBe(primaryKey);
    expect(await rig.hub.twins.get(HUB, { deviceId: 'd1' })).toMatchObject({
      etag: 'AAAAAAAAAAE=',
      deviceEtag: device.etag,
      version: 2,
      tags: {},
    });
    expect(await rig.hub.identities.device(HUB, 'd1')).toEqual(device);
  });

  it('keeps no key in clear', async () => {
    const device = await rig.hub.identities.putDevice(HUB, { deviceId: 'd1' }, undefined);
    if (device.authentication.type !== 'sas') throw new Error('no keys');
    const { primaryKey } = device.authentication.symmetricKey;
    let kept = '';
    for await (const [, value] of rig.state.space(`hub/${HUB}`).entries())
      kept += Buffer.from(value).toString('latin1');
    expect(kept).toContain('sealed:1:');
    expect(kept).not.toContain(primaryKey);
  });

  it('lists an identity that has not changed as the same object, and never an earlier state', async () => {
    const { identities } = rig.hub;
    for (const deviceId of ['d1', 'd2']) await identities.putDevice(HUB, { deviceId }, undefined);
    await identities.putModule(HUB, { deviceId: 'd1', moduleId: 'm' }, undefined);
    const list = () => identities.devices(HUB, { limit: 10 });
    const first = await list();
    const [module] = await identities.modules(HUB, 'd1');
    expect(first).toEqual([await identities.device(HUB, 'd1'), await identities.device(HUB, 'd2')]);
    const second = await list();
    expect(second.map((device, index) => device === first[index])).toEqual([true, true]);
    expect((await identities.modules(HUB, 'd1'))[0]).toBe(module);

    await identities.putDevice(HUB, { deviceId: 'd1', statusReason: 'new' }, '*');
    await identities.regenerateKeys(HUB, { deviceId: 'd2' }, 'both');
    expect(await list()).toEqual([await identities.device(HUB, 'd1'), await identities.device(HUB, 'd2')]);

    await rig.connect({ deviceId: 'd1' });
    const connected = await list();
    expect(connected[0]).toMatchObject({ connectionState: 'Connected', statusReason: 'new' });
    expect(connected).toEqual([await identities.device(HUB, 'd1'), await identities.device(HUB, 'd2')]);

    await identities.deleteDevice(HUB, 'd1', '*');
    await identities.putDevice(HUB, { deviceId: 'd1' }, undefined);
    expect(await list()).toEqual([await identities.device(HUB, 'd1'), await identities.device(HUB, 'd2')]);
  });

  it('lists the others when the keys of one cannot be opened, and takes new keys for that one', async () => {
    const unreadable: unknown[] = [];
    const telemetry = { emit: (event: string, fields?: object) => unreadable.push({ event, ...fields }) };
    rig = await hubRig({ state: rig.state, telemetry });
    const { identities } = rig.hub;
    for (const deviceId of ['d1', 'd2', 'd3']) await identities.putDevice(HUB, { deviceId }, undefined);
    const space = rig.state.space(`hub/${HUB}`);
    const kept = Buffer.from((await space.get('d/d2')) ?? []).toString();
    await space.write([{ key: 'd/d2', value: Buffer.from(kept.replace(/sealed:1:\w+:/, 'sealed:1:other:')) }]);

    rig = await hubRig({ state: rig.state, telemetry });
    const listed = await rig.hub.identities.devices(HUB, { limit: 10 });
    expect(listed.map(({ deviceId }) => deviceId)).toEqual(['d1', 'd2', 'd3']);
    const keys = listed.map(({ authentication }) => authentication.type === 'sas' && authentication.symmetricKey);
    expect(keys).toMatchObject([{}, { primaryKey: '', secondaryKey: '' }, {}]);
    expect(unreadable).toMatchObject([{ event: 'hub_keys_unreadable', identity: 'd2' }]);
    await expect(rig.hub.identities.device(HUB, 'd2')).rejects.toMatchObject({ code: 'GW_SEALED' });
    const { primaryKey } = await rig.hub.identities.regenerateKeys(HUB, { deviceId: 'd2' }, 'both');
    expect(await rig.hub.identities.device(HUB, 'd2')).toMatchObject({
      authentication: { symmetricKey: { primaryKey } },
    });
  });

  it('refuses to create what exists, to update what does not, and stale etags', async () => {
    const { identities } = rig.hub;
    const first = await identities.putDevice(HUB, { deviceId: 'd1' }, undefined);
    expect(await refusalOf(identities.putDevice(HUB, { deviceId: 'd1' }, undefined))).toBe('DeviceAlreadyExists');
    expect(await refusalOf(identities.putDevice(HUB, { deviceId: 'd2' }, '*'))).toBe('DeviceNotFound');
    const second = await identities.putDevice(HUB, { deviceId: 'd1', statusReason: 'because' }, first.etag);
    expect(second.etag).not.toBe(first.etag);
    expect(await refusalOf(identities.putDevice(HUB, { deviceId: 'd1' }, first.etag))).toBe('PreconditionFailed');
    expect(await refusalOf(identities.deleteDevice(HUB, 'd1', first.etag))).toBe('PreconditionFailed');
    expect((await identities.device(HUB, 'd1')).statusReason).toBe('because');
    await identities.deleteDevice(HUB, 'd1', second.etag);
    expect(await refusalOf(identities.device(HUB, 'd1'))).toBe('DeviceNotFound');
    expect(await refusalOf(rig.hub.twins.get(HUB, { deviceId: 'd1' }))).toBe('DeviceNotFound');
    const again = await identities.putDevice(HUB, { deviceId: 'd1' }, undefined);
    expect(again.generationId).not.toBe(first.generationId);
  });

  it('forgets why a device was disabled when it is enabled without another reason', async () => {
    const put = async (input: { readonly status?: 'enabled' | 'disabled'; readonly statusReason?: string }) =>
      (await rig.hub.identities.putDevice(HUB, { deviceId: 'd1', ...input }, '*')).statusReason;
    await rig.hub.identities.putDevice(HUB, { deviceId: 'd1' }, undefined);
    expect(await put({ status: 'disabled', statusReason: 'out of order' })).toBe('out of order');
    expect(await put({ status: 'disabled' })).toBe('out of order');
    expect(await put({})).toBe('out of order');
    expect(await put({ status: 'enabled' })).toBeNull();
    expect(await put({ status: 'disabled' })).toBeNull();
    expect(await put({ status: 'enabled', statusReason: 'mended' })).toBe('mended');
  });

  it('keeps keys that an update leaves empty, and takes those that it gives', async () => {
    const { identities } = rig.hub;
    const before = await identities.putDevice(HUB, { deviceId: 'd1' }, undefined);
    const empty = { type: 'sas', symmetricKey: { primaryKey: '', secondaryKey: '' } } as const;
    const same = await identities.putDevice(HUB, { deviceId: 'd1', authentication: empty }, '*');
    expect(same.authentication).toEqual(before.authentication);
    const primaryKey = Buffer.alloc(32, 7).toString('base64');
    const given = { type: 'sas', symmetricKey: { primaryKey } } as const;
    const changed = await identities.putDevice(HUB, { deviceId: 'd1', authentication: given }, '*');
    expect(changed.authentication).toMatchObject({ symmetricKey: { primaryKey } });
    const short = { type: 'sas', symmetricKey: { primaryKey: 'c2hvcnQ=' } } as const;
    expect(await refusalOf(identities.putDevice(HUB, { deviceId: 'd1', authentication: short }, '*'))).toBe(
      'ArgumentInvalid',
    );
    const drawn = await identities.regenerateKeys(HUB, { deviceId: 'd1' }, 'secondaryKey');
    expect(drawn.primaryKey).toBe(primaryKey);
  });

  it('checks ids, thumbprints and scopes', async () => {
    const { identities } = rig.hub;
    for (const deviceId of ['', 'a/b', 'a b', 'x'.repeat(129), 'é', 'a+/b', '#\n']) {
      expect(await refusalOf(identities.putDevice(HUB, { deviceId }, undefined)), deviceId).toBe('ArgumentInvalid');
    }
    const x509 = { type: 'selfSigned', x509Thumbprint: { primaryThumbprint: 'aa' } } as const;
    expect(await refusalOf(identities.putDevice(HUB, { deviceId: 'x', authentication: x509 }, undefined))).toBe(
      'ArgumentInvalid',
    );
    const parent = await identities.putDevice(HUB, { deviceId: 'edge', capabilities: { iotEdge: true } }, undefined);
    expect(parent.deviceScope).toBe(`ms-azure-iot-edge://edge-${parent.generationId}`);
    const deviceScope = parent.deviceScope as string;
    const leaf = await identities.putDevice(HUB, { deviceId: 'leaf', deviceScope }, undefined);
    expect(leaf).toMatchObject({ deviceScope, parentScopes: [deviceScope] });
    const wrong = { deviceId: 'other', deviceScope: 'ms-azure-iot-edge://leaf-123' };
    expect(await refusalOf(identities.putDevice(HUB, wrong, undefined))).toBe('InvalidDeviceScope');
    expect((await identities.modules(HUB, 'edge')).map(({ moduleId }) => moduleId)).toEqual(['$edgeAgent', '$edgeHub']);
    expect(await refusalOf(identities.deleteModule(HUB, { deviceId: 'edge', moduleId: '$edgeHub' }, '*'))).toBe(
      'SystemModuleModifyUnauthorizedAccess',
    );
  });

  it('moves a device from parent to parent, by the field that says something new', async () => {
    const { identities } = rig.hub;
    const put = (input: DeviceIdentityInput) => identities.putDevice(HUB, input, '*');
    const edge = async (deviceId: string): Promise<string> => {
      const made = await identities.putDevice(HUB, { deviceId, capabilities: { iotEdge: true } }, undefined);
      return made.deviceScope ?? '';
    };
    const one = await edge('one');
    const two = await edge('two');
    const leaf = await identities.putDevice(HUB, { deviceId: 'leaf', deviceScope: one }, undefined);
    const inTwo = { deviceScope: two, parentScopes: [two] };
    // Whole documents, as SDKs write them back.
    expect(await put({ ...leaf, deviceScope: two })).toMatchObject(inTwo);
    expect(await put({ ...leaf, ...inTwo, parentScopes: [one] })).toMatchObject({ parentScopes: [one] });
    expect(await put({ ...leaf, parentScopes: [] })).not.toHaveProperty('deviceScope');
    expect(await put({ deviceId: 'leaf', parentScopes: [two] })).toMatchObject(inTwo);
    expect(await put({ ...leaf, ...inTwo, deviceScope: '' })).toMatchObject({ parentScopes: [] });
    expect(await put({ deviceId: 'leaf', deviceScope: two })).toMatchObject(inTwo);
    expect(await refusalOf(put({ ...leaf, ...inTwo, parentScopes: [one, two] }))).toBe('InvalidDeviceScope');
    // A leaf of an edge device that is gone can be written, and does not become another's by that.
    const child = await put({ deviceId: 'one', parentScopes: [two] });
    await identities.deleteDevice(HUB, 'two', '*');
    expect(await put({ ...leaf, ...inTwo, status: 'disabled' })).toMatchObject({ ...inTwo, status: 'disabled' });
    expect(await put({ ...child, statusReason: 'kept' })).toMatchObject({ deviceScope: one, parentScopes: [two] });
    // One that is no edge device any more stands in its parent's scope, not in its own.
    expect(await put({ ...child, capabilities: { iotEdge: false } })).toMatchObject(inTwo);
    expect(await refusalOf(put({ deviceId: 'leaf', deviceScope: `${two}1` }))).toBe('InvalidDeviceScope');
  });

  it('pages in the order of ids', async () => {
    const ids = Array.from({ length: 25 }, (_, index) => `d${String(index).padStart(2, '0')}`);
    await Promise.all(ids.map((deviceId) => rig.hub.identities.putDevice(HUB, { deviceId }, undefined)));
    const found: string[] = [];
    for (;;) {
      const afterId = found.at(-1);
      const page = await rig.hub.identities.devices(HUB, { limit: 10, ...(afterId !== undefined && { afterId }) });
      if (page.length === 0) break;
      found.push(...page.map(({ deviceId }) => deviceId));
    }
    expect(found).toEqual(ids);
  });

  it('keeps modules with their device', async () => {
    const { identities, twins } = rig.hub;
    const module = { deviceId: 'd1', moduleId: 'm1' };
    expect(await refusalOf(identities.putModule(HUB, module, undefined))).toBe('DeviceNotFound');
    await identities.putDevice(HUB, { deviceId: 'd1' }, undefined);
    expect(await refusalOf(identities.module(HUB, module))).toBe('ModuleNotFound');
    await identities.putModule(HUB, module, undefined);
    expect(await refusalOf(identities.putModule(HUB, module, undefined))).toBe('ModuleAlreadyExistsOnDevice');
    expect(await twins.get(HUB, module)).toMatchObject({ deviceId: 'd1', moduleId: 'm1' });
    for (let index = 2; index <= 50; index += 1) {
      await identities.putModule(HUB, { deviceId: 'd1', moduleId: `m${index}` }, undefined);
    }
    const over = identities.putModule(HUB, { deviceId: 'd1', moduleId: 'm51' }, undefined);
    expect(await refusalOf(over)).toBe('TooManyModulesOnDevice');
    await identities.deleteDevice(HUB, 'd1', '*');
    await identities.putDevice(HUB, { deviceId: 'd1' }, undefined);
    expect(await identities.modules(HUB, 'd1')).toEqual([]);
  });

  it('counts devices in the writes that change them', async () => {
    const { identities } = rig.hub;
    await identities.putDevice(HUB, { deviceId: 'a' }, undefined);
    await identities.putDevice(HUB, { deviceId: 'b', status: 'disabled' }, undefined);
    await identities.putDevice(HUB, { deviceId: 'c' }, undefined);
    await identities.putDevice(HUB, { deviceId: 'c', status: 'disabled' }, '*');
    await identities.deleteDevice(HUB, 'a', '*');
    const expected = { totalDeviceCount: 2, enabledDeviceCount: 0, disabledDeviceCount: 2, connectedDeviceCount: 0 };
    expect(await identities.statistics(HUB)).toEqual(expected);
    const reopened = await hubRig({ state: rig.state });
    expect(await reopened.hub.identities.statistics(HUB)).toEqual(expected);
  });

  it('does each entry of a bulk request for itself', async () => {
    const { identities, twins } = rig.hub;
    await identities.putDevice(HUB, { deviceId: 'old' }, undefined);
    const failures = await identities.bulk(HUB, [
      { mode: 'create', device: { deviceId: 'new' }, tags: { site: 'x' }, desired: { rate: 5 } },
      { mode: 'create', device: { deviceId: 'old' } },
      { mode: 'update', device: { deviceId: 'absent' } },
      { mode: 'deleteIfMatchETag', device: { deviceId: 'gone' }, etag: 'x' },
    ]);
    expect(failures.map(({ deviceId, errorCode }) => `${deviceId} ${errorCode}`)).toEqual([
      'old DeviceAlreadyExists',
      'absent DeviceNotFound',
      'gone DeviceNotFound',
    ]);
    expect(await twins.get(HUB, { deviceId: 'new' })).toMatchObject({
      tags: { site: 'x' },
      properties: { desired: { rate: 5, $version: 1 } },
    });
    const twice = { mode: 'create', device: { deviceId: 'two' } } as const;
    expect(await refusalOf(identities.bulk(HUB, [twice, twice]))).toBe('DeviceDefinedMultipleTimes');
    const many = Array.from({ length: 101 }, (_, index) => ({
      mode: 'create' as const,
      device: { deviceId: `${index}` },
    }));
    expect(await refusalOf(identities.bulk(HUB, many))).toBe('ArgumentInvalid');
  });
});
