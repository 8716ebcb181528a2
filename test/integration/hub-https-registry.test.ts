// The registry, twins and methods of the local hub through the published `azure-iothub`, which sends them over HTTPS.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sasToken } from '../support/amqp-client.ts';
import { curl } from '../support/curl.ts';
import { HTTPS_PORT, HUB_HOST_NAME, startHubDaemon, type HubDaemon } from '../support/hub-daemon.ts';
import { startBackEnd, type SdkChild } from '../support/sdk-child.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';

const ADDRESS = '127.0.99.4';
/** Every character that an id may have, and 128 of them. */
const ODD_ID = "a-.%_*?!(),:=@$'Z";
const LONG_ID = `${'%:'.repeat(63)}xY`;
const KEY = Buffer.alloc(32, 3).toString('base64');
const OTHER_KEY = Buffer.alloc(64, 4).toString('base64');

interface Identity {
  readonly deviceId: string;
  readonly etag: string;
  readonly generationId: string;
  readonly status: string;
  readonly authentication: {
    readonly type: string;
    readonly symmetricKey: { readonly primaryKey: string; readonly secondaryKey: string };
  };
}

interface TwinJson {
  readonly etag: string;
  readonly version: number;
  readonly tags: unknown;
  readonly properties: { readonly desired: Readonly<Record<string, unknown>> };
}

describe('azure-iothub over HTTPS', () => {
  let directory: TempDir;
  let daemon: HubDaemon;
  let backEnd: SdkChild;
  const registry = <T = unknown>(name: string, ...args: readonly unknown[]): Promise<T> =>
    backEnd.call('registry', name, ...args) as Promise<T>;

  beforeAll(async () => {
    directory = createTempDir('hub-registry');
    daemon = await startHubDaemon({ address: ADDRESS, directory, ports: [HTTPS_PORT] });
    backEnd = startBackEnd({ hub: daemon });
    await backEnd.call('openRegistry', daemon.owner);
    await backEnd.call('useClient', daemon.owner);
  });

  afterAll(async () => {
    await backEnd.kill();
    await daemon.kill('SIGKILL');
    directory.remove();
  });

  it.each([['d1'], [ODD_ID], [LONG_ID]])('creates, gets, updates and deletes %s', async (deviceId) => {
    const created = await registry<Identity>('create', { deviceId });
    expect(created).toMatchObject({ deviceId, status: 'enabled', authentication: { type: 'sas' } });
    const keys = created.authentication.symmetricKey;
    expect(Buffer.from(keys.primaryKey, 'base64')).toHaveLength(32);
    expect(keys.secondaryKey).not.toBe(keys.primaryKey);
    expect(await registry('get', deviceId)).toEqual(created);

    const updated = await registry<Identity>('update', { deviceId, status: 'disabled', statusReason: 'broken' });
    expect(updated).toMatchObject({ status: 'disabled', statusReason: 'broken', generationId: created.generationId });
    // The SDK sends empty keys where the caller gave none: the device keeps its own.
    expect(updated.authentication.symmetricKey).toEqual(keys);
    expect(updated.etag).not.toBe(created.etag);

    await registry('delete', deviceId);
    await expect(registry('get', deviceId)).rejects.toMatchObject({ name: 'DeviceNotFoundError' });
    const again = await registry<Identity>('create', { deviceId });
    expect(again.generationId).not.toBe(created.generationId);
    await registry('delete', deviceId);
  });

  it('takes keys, thumbprints and authorities', async () => {
    const symmetricKey = { primaryKey: KEY, secondaryKey: OTHER_KEY };
    const sas = await registry<Identity>('create', { deviceId: 'own-keys', authentication: { symmetricKey } });
    expect(sas.authentication.symmetricKey).toEqual(symmetricKey);
    const primaryThumbprint = 'AB'.repeat(20);
    const x509 = {
      deviceId: 'own-certificate',
      authentication: { type: 'selfSigned', x509Thumbprint: { primaryThumbprint } },
    };
    expect(await registry('create', x509)).toMatchObject({
      authentication: { type: 'selfSigned', x509Thumbprint: { primaryThumbprint, secondaryThumbprint: null } },
    });
    const ca = { deviceId: 'of-authority', authentication: { type: 'certificateAuthority' } };
    expect(await registry('create', ca)).toMatchObject({ authentication: { type: 'certificateAuthority' } });
    const short = { deviceId: 'short', authentication: { symmetricKey: { primaryKey: 'AAAA', secondaryKey: KEY } } };
    await expect(registry('create', short)).rejects.toMatchObject({ name: 'ArgumentError' });
  });

  it('names its refusals so that the SDK knows them', async () => {
    await registry('create', { deviceId: 'twice' });
    await expect(registry('create', { deviceId: 'twice' })).rejects.toMatchObject({ name: 'DeviceAlreadyExistsError' });
    await expect(registry('update', { deviceId: 'nobody' })).rejects.toMatchObject({ name: 'DeviceNotFoundError' });
    await expect(registry('delete', 'nobody')).rejects.toMatchObject({ name: 'DeviceNotFoundError' });
    await expect(registry('create', { deviceId: 'a/b' })).rejects.toMatchObject({ name: 'ArgumentError' });
    await expect(registry('updateTwin', 'twice', { tags: { a: 1 } }, 'AAAA')).rejects.toMatchObject({
      name: 'InvalidEtagError',
    });
    await expect(registry('getTwin', 'nobody')).rejects.toMatchObject({ name: 'DeviceNotFoundError' });
    const wrong = daemon.owner.replace(daemon.ownerKey, KEY);
    await backEnd.call('openRegistry', wrong);
    await expect(registry('get', 'twice')).rejects.toMatchObject({ name: 'UnauthorizedError' });
    await backEnd.call('openRegistry', daemon.owner);
  });

  it('lists devices and counts them', async () => {
    await registry('create', { deviceId: 'counted-1' });
    await registry('create', { deviceId: 'counted-2', status: 'disabled' });
    const all = await registry<readonly Identity[]>('list');
    expect(all.map(({ deviceId }) => deviceId)).toEqual(expect.arrayContaining(['counted-1', 'counted-2']));
    const enabled = all.filter(({ status }) => status === 'enabled').length;
    expect(await registry('getRegistryStatistics')).toEqual({
      totalDeviceCount: all.length,
      enabledDeviceCount: enabled,
      disabledDeviceCount: all.length - enabled,
    });
  });

  it('adds, updates and removes devices in bulk', async () => {
    const ids = Array.from({ length: 100 }, (_, index) => `bulk-${index}`);
    const devices = ids.map((deviceId) => ({ deviceId }));
    expect(await registry('addDevices', devices)).toMatchObject({ isSuccessful: true, errors: [] });
    await expect(registry('addDevices', devices)).rejects.toMatchObject({ name: 'ArgumentError' });
    const disabled = devices.map((device) => ({ ...device, status: 'disabled' }));
    expect(await registry('updateDevices', disabled, true)).toMatchObject({ isSuccessful: true });
    const known = await registry<readonly Identity[]>('list');
    expect(known.filter(({ deviceId, status }) => deviceId.startsWith('bulk-') && status === 'disabled')).toHaveLength(
      100,
    );
    const etags = known
      .filter(({ deviceId }) => deviceId.startsWith('bulk-'))
      .map(({ deviceId, etag }) => ({ deviceId, etag }));
    expect(await registry('removeDevices', etags, false)).toMatchObject({ isSuccessful: true });
    await expect(registry('get', 'bulk-0')).rejects.toMatchObject({ name: 'DeviceNotFoundError' });
  });

  it('manages modules and their twins', async () => {
    const deviceId = 'with-modules';
    await registry('create', { deviceId });
    const moduleId = ODD_ID;
    expect(await registry('addModule', { deviceId, moduleId })).toMatchObject({ deviceId, moduleId });
    await expect(registry('addModule', { deviceId, moduleId })).rejects.toMatchObject({
      name: 'DeviceAlreadyExistsError',
    });
    await registry('addModule', { deviceId, moduleId: 'second' });
    const modules = await registry<readonly { readonly moduleId: string }[]>('getModulesOnDevice', deviceId);
    expect(modules.map((module) => module.moduleId).sort()).toEqual([moduleId, 'second'].sort());
    const module = await registry<Identity>('getModule', deviceId, 'second');
    expect(await registry('updateModule', { ...module, managedBy: 'me' })).toMatchObject({ managedBy: 'me' });
    const twin = await registry<TwinJson>('getModuleTwin', deviceId, moduleId);
    const patch = { properties: { desired: { interval: 5 } } };
    const patched = await registry<TwinJson>('updateModuleTwin', deviceId, moduleId, patch, twin.etag);
    expect(patched.properties.desired).toMatchObject({ interval: 5, $version: 2 });
    await registry('removeModule', deviceId, 'second');
    await expect(registry('getModule', deviceId, 'second')).rejects.toMatchObject({ message: 'Not found' });
  });

  it('gives an edge device its modules and a scope', async () => {
    const edge = await registry<{ readonly deviceScope: string }>('create', {
      deviceId: 'edge',
      capabilities: { iotEdge: true },
    });
    expect(edge.deviceScope).toMatch(/^ms-azure-iot-edge:\/\/edge-\d+$/);
    const modules = await registry<readonly { readonly moduleId: string }[]>('getModulesOnDevice', 'edge');
    expect(modules.map(({ moduleId }) => moduleId).sort()).toEqual(['$edgeAgent', '$edgeHub']);
    await expect(registry('removeModule', 'edge', '$edgeHub')).rejects.toMatchObject({ name: 'UnauthorizedError' });
    expect(await registry('create', { deviceId: 'leaf', deviceScope: edge.deviceScope })).toMatchObject({
      deviceScope: edge.deviceScope,
    });
  });

  it('reads, patches and queries twins', async () => {
    await registry('create', { deviceId: 'twin' });
    const fresh = await registry<TwinJson>('getTwin', 'twin');
    expect(fresh).toMatchObject({
      etag: 'AAAAAAAAAAE=',
      version: 2,
      tags: {},
      properties: { desired: { $version: 1 } },
    });
    const patch = { tags: { site: { hall: 3 } }, properties: { desired: { interval: 5, gone: true } } };
    const patched = await registry<TwinJson>('updateTwin', 'twin', patch, fresh.etag);
    expect(patched).toMatchObject({
      tags: { site: { hall: 3 } },
      properties: { desired: { interval: 5, $version: 2 } },
    });
    const second = await registry<TwinJson>('updateTwin', 'twin', { properties: { desired: { gone: null } } }, '*');
    expect(second.properties.desired).not.toHaveProperty('gone');
    expect(await registry('getTwin', 'twin')).toEqual(second);
    await expect(registry('updateTwin', 'twin', patch, fresh.etag)).rejects.toMatchObject({ name: 'InvalidEtagError' });

    const all = await registry<readonly Identity[]>('list');
    const found = (await backEnd.call('query', 'SELECT * FROM devices', 5)) as readonly Identity[];
    expect(found.map(({ deviceId }) => deviceId).sort()).toEqual(all.map(({ deviceId }) => deviceId).sort());
    await expect(backEnd.call('query', "SELECT * FROM devices WHERE tags.a = 'b'")).rejects.toMatchObject({
      name: 'ArgumentError',
    });
    const query = (...header: readonly string[]) => {
      const head = [
        `Authorization: ${sasToken(HUB_HOST_NAME, daemon.ownerKey, 3600, 'iothubowner')}`,
        'Content-Type: application/json',
        ...header,
      ];
      const args = ['--request', 'POST', ...head.flatMap((line) => ['--header', line]), '--data-binary', '@-'];
      return curl(daemon, '/devices/query?api-version=2021-04-12', args, '{"query":"SELECT * FROM devices"}');
    };
    const strange = [
      // The last one is an id, but not as a page names it.
      ...['bogus', Buffer.from('after d1').toString('base64'), 'ZDE'].map((text) => ['x-ms-continuation', text]),
      ...['-1', '0', 'x', '1.5'].map((text) => ['x-ms-max-item-count', text]),
    ];
    for (const [name = '', text = ''] of strange) {
      const body = expect.stringContaining(name) as string;
      expect(await query(`${name}: ${text}`), `${name}: ${text}`).toMatchObject({ status: 400, body });
    }
    expect(await query('x-ms-max-item-count: 10000000000')).toMatchObject({ status: 200 });
  });

  it('says of a method why it could not be called', async () => {
    await registry('create', { deviceId: 'away' });
    await registry('addModule', { deviceId: 'away', moduleId: 'm' });
    const call = { methodName: 'reboot', payload: { now: true }, responseTimeoutInSeconds: 5 };
    await expect(backEnd.call('invoke', 'away', call)).rejects.toMatchObject({ statusCode: 404 });
    await expect(backEnd.call('invokeModule', 'away', 'm', call)).rejects.toMatchObject({ statusCode: 404 });
    await expect(backEnd.call('invoke', 'away', { ...call, responseTimeoutInSeconds: 1 })).rejects.toMatchObject({
      name: 'ArgumentError',
    });
  });

  it('keeps all of it over a kill', async () => {
    const created = await registry<Identity>('create', { deviceId: 'kept' });
    const twin = await registry<TwinJson>('updateTwin', 'kept', { tags: { a: 1 } }, '*');
    await daemon.kill('SIGKILL');
    daemon = await startHubDaemon({ address: ADDRESS, directory, ports: [HTTPS_PORT] });
    expect(await registry('get', 'kept')).toEqual(created);
    expect(await registry('getTwin', 'kept')).toEqual(twin);
  });
});
