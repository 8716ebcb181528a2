// Devices over HTTPS: the published `azure-iot-device-http`, and curl for what no SDK sends.

import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createControlClient, type ControlClient } from '../../src/admin/control-client.ts';
import type { EventView } from '../../src/core/hub/admin.ts';
import { makeSasToken } from '../../src/iothub/sas-token.ts';
import { hmacSha256 } from '../../src/platform/hmac.ts';
import { createAuthority } from '../support/certificates.ts';
import { run } from '../support/command.ts';
import { curl, type CurlAnswer } from '../support/curl.ts';
import { HTTPS_PORT, HUB_HOST_NAME, startHubDaemon, type HubDaemon } from '../support/hub-daemon.ts';
import { startDevice, type SdkChild } from '../support/sdk-child.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.99.5';
const VERSION = 'api-version=2021-04-12';
/** Percent-encoded in every place where it stands. */
const DEVICE = "pump %25:'7";

describe('devices over HTTPS', () => {
  let directory: TempDir;
  let daemon: HubDaemon;
  let control: ControlClient;
  const events: EventView[] = [];
  const watching = new AbortController();

  const token = (key: string, resource: string, fields: { expiresInMs?: number; policy?: string } = {}): string =>
    makeSasToken(
      {
        resource: `${HUB_HOST_NAME}${resource}`,
        key,
        expiresAtMs: Date.now() + (fields.expiresInMs ?? 3_600_000),
        ...(fields.policy !== undefined && { policy: fields.policy }),
      },
      { hmacSha256 },
    );
  const eventsOf = (deviceId: string): EventView[] => events.filter((event) => event.deviceId === deviceId);

  async function newDevice(deviceId: string): Promise<{ readonly key: string; readonly authorization: string }> {
    const { authentication } = await control.hub.createIdentity({ deviceId });
    if (authentication.type !== 'sas') throw new Error('The device has no keys.');
    const key = authentication.symmetricKey.primaryKey;
    return { key, authorization: `Authorization: ${token(key, `/devices/${deviceId}`)}` };
  }

  beforeAll(async () => {
    directory = createTempDir('hub-device');
    daemon = await startHubDaemon({ address: ADDRESS, directory, ports: [HTTPS_PORT] });
    control = createControlClient(`${daemon.dataDirectory}/control.sock`);
    void control.hub
      .monitorEvents({ from: 'earliest' }, { signal: watching.signal, report: (event) => void events.push(event) })
      .catch(() => {});
  });

  afterAll(async () => {
    watching.abort();
    await daemon.kill('SIGKILL');
    directory.remove();
  });

  describe('on the SDK', () => {
    let device: SdkChild;
    const deviceId = DEVICE.replace(' ', '-');

    beforeAll(async () => {
      await control.hub.createIdentity({ deviceId });
      const { text } = await control.hub.connectionString({ of: 'identity', deviceId });
      device = startDevice({ hub: daemon });
      await device.call('open', text, 'http');
      await device.call('neverRetry');
      await device.call('setOptions', { interval: 1 });
    });

    afterAll(() => device.kill());

    it('sends messages with their properties', async () => {
      const system = {
        messageId: 'm-1',
        correlationId: 'c-1',
        userId: 'u-1',
        contentType: 'application/json',
        contentEncoding: 'utf-8',
      };
      await device.call('send', { body: '{"t":1}', properties: { Temperature: 'High', lower: 'x' }, system });
      const event = await waitFor(() => eventsOf(deviceId)[0], { what: 'the event' });
      expect(event).toMatchObject({
        text: '{"t":1}',
        properties: { Temperature: 'High', lower: 'x' },
        systemProperties: system,
        stamps: {
          'iothub-connection-device-id': deviceId,
          'iothub-message-source': 'Telemetry',
          'iothub-connection-auth-method':
            '{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}',
        },
      });
    });

    it('sends batches, and is refused one that is too large', async () => {
      const before = eventsOf(deviceId).length;
      await device.call('sendBatch', [{ body: 'eins', properties: { n: '1' } }, { body: 'zwei äöü' }]);
      await waitFor(() => eventsOf(deviceId).length === before + 2, { what: 'both' });
      expect(eventsOf(deviceId).slice(before)).toMatchObject([
        { text: 'eins', properties: { n: '1' } },
        { text: 'zwei äöü' },
      ]);
      const half = 'x'.repeat(140_000);
      await expect(device.call('sendBatch', [{ body: half }, { body: half }])).rejects.toMatchObject({
        name: 'MessageTooLargeError',
      });
      expect(eventsOf(deviceId)).toHaveLength(before + 2);
    });

    it('fetches commands, completes, rejects and abandons them', async () => {
      await device.call('onCommands', 'none');
      const command = {
        deviceId,
        properties: { Colour: 'grün' },
        messageId: 'id-1',
        correlationId: 'c',
        ack: 'full',
      } as const;
      await control.hub.sendCommand({ ...command, text: 'one' });
      expect(await device.nextEvent('command')).toMatchObject({
        body: 'one',
        messageId: 'id-1',
        correlationId: 'c',
        properties: { 'iothub-app-colour': 'gr%C3%BCn' },
        lockToken: expect.stringMatching(/^[0-9a-f-]{36}$/) as unknown,
      });
      await device.call('abandon', 'one');
      expect(await device.nextEvent('command')).toMatchObject({ body: 'one' });
      await device.call('complete', 'one');
      await expect(device.call('complete', 'one')).rejects.toMatchObject({
        name: expect.stringMatching(/Error$/) as unknown,
      });
      await control.hub.sendCommand({ ...command, text: 'two' });
      await device.nextEvent('command');
      await device.call('reject', 'two');
      expect(await control.hub.identity({ deviceId })).toMatchObject({ cloudToDeviceMessageCount: 0 });
    });

    it('is let in by a certificate', async () => {
      const folder = directory.directory('certificates');
      const authority = await createAuthority(folder);
      const { certificatePath, keyPath } = await authority.issue({ name: 'certified' });
      const print = await run('openssl', ['x509', '-in', certificatePath, '-noout', '-fingerprint', '-sha256']);
      const primaryThumbprint = print.trim().replace(/^.*=/, '').replaceAll(':', '');
      await control.hub.createIdentity({
        deviceId: 'certified',
        authentication: { type: 'selfSigned', x509Thumbprint: { primaryThumbprint } },
      });
      const { text } = await control.hub.connectionString({ of: 'identity', deviceId: 'certified' });
      await using certified = startDevice({ hub: daemon });
      await certified.call('open', text, 'http', { cert: certificatePath, key: keyPath });
      await certified.call('neverRetry');
      await certified.call('send', { body: 'by certificate' });
      await waitFor(() => eventsOf('certified').length === 1, { what: 'the event' });
      await control.hub.updateIdentity({ deviceId: 'certified', status: 'disabled' });
      await expect(certified.call('send', { body: 'no' })).rejects.toMatchObject({ name: 'IotHubQuotaExceededError' });
    });
  });

  describe('on curl', () => {
    let authorization: string;
    const post = (path: string, args: readonly string[], input?: string): Promise<CurlAnswer> =>
      curl(daemon, path, ['--request', 'POST', ...args, '--data-binary', '@-'], input ?? '');
    const telemetry = '/devices/plain/messages/events';

    beforeAll(async () => {
      ({ authorization } = await newDevice('plain'));
    });

    it('keeps the case of property names, whatever the way they come', async () => {
      const headers = [
        'iothub-app-camelCase: 1',
        'IOTHUB-APP-UPPER: 2',
        'IoTHub-MessageId: m',
        'iothub-app-__proto__: 3',
      ];
      const args = [authorization, ...headers].flatMap((header) => ['--header', header]);
      expect((await post(`${telemetry}/?${VERSION}`, args, 'x')).status).toBe(204);
      const batch = [
        { body: 'aGFsbG8=', properties: { 'iothub-app-camelCase': '1', 'iothub-contenttype': 'text/plain' } },
        { body: 'plain text', base64Encoded: false },
      ];
      const type = [
        '--header',
        authorization,
        '--header',
        'Content-Type: application/vnd.microsoft.iothub.json; charset=utf-8',
      ];
      expect((await post(`${telemetry}?${VERSION}`, type, JSON.stringify(batch))).status).toBe(204);
      await waitFor(() => eventsOf('plain').length === 3, { what: 'three events' });
      const [first, second, third] = eventsOf('plain');
      expect(Object.entries(first?.properties ?? {})).toEqual([
        ['camelCase', '1'],
        ['UPPER', '2'],
        ['__proto__', '3'],
      ]);
      expect(first?.systemProperties).toMatchObject({ messageId: 'm' });
      expect(second).toMatchObject({
        text: 'hallo',
        properties: { camelCase: '1' },
        systemProperties: { contentType: 'text/plain' },
      });
      expect(third).toMatchObject({ text: 'plain text', properties: {} });
    });

    it('writes the headers of a command as the SDK for C reads them', async () => {
      const { authorization: own } = await newDevice('reader');
      const path = '/devices/reader/messages/deviceBound';
      const empty = await curl(daemon, `${path}?${VERSION}`, ['--header', own]);
      expect([empty.status, empty.body]).toEqual([204, '']);
      await control.hub.sendCommand({
        deviceId: 'reader',
        text: 'body',
        messageId: 'id',
        contentType: 'text/plain',
        contentEncoding: 'utf-8',
        properties: { Name: 'a b' },
      });
      const found = await curl(daemon, `${path}?${VERSION}`, ['--header', own]);
      expect([found.status, found.body]).toEqual([200, 'body']);
      expect(found.head).toMatch(/^ETag: "[0-9a-f-]{36}"\r$/m);
      expect(found.head).toMatch(/^ContentType: text\/plain\r$/m);
      expect(found.head).toMatch(/^ContentEncoding: utf-8\r$/m);
      expect(found.head).toMatch(/^iothub-app-Name: a b\r$/m);
      expect(found.head).toMatch(/^iothub-deliverycount: 0\r$/m);
      expect(found.head).toMatch(/^iothub-enqueuedtime: \d\d\/\d\d\/20\d\d \d\d:\d\d:\d\d [AP]M\r$/m);
      const lock = found.header('ETag')?.replaceAll('"', '') ?? '';
      const settle = (suffix: string, ifMatch = `"${lock}"`): Promise<CurlAnswer> =>
        curl(daemon, `${path}/${suffix}`, ['--request', 'DELETE', '--header', own, '--header', `If-Match: ${ifMatch}`]);
      const other = await settle(`${lock}?${VERSION}`, '"00000000-0000-0000-0000-000000000000"');
      expect([other.status, other.header('iothub-errorcode')]).toEqual([412, 'PreconditionFailed']);
      expect((await settle(`${lock}?${VERSION}&reject`)).status).toBe(204);
      const gone = await settle(`${lock}?${VERSION}`);
      expect([gone.status, gone.header('iothub-errorcode')]).toEqual([412, 'DeviceMessageLockLost']);
    });

    it('has no HEAD, which would lock a command unread', async () => {
      const { authorization: own } = await newDevice('header');
      const path = `/devices/header/messages/devicebound?${VERSION}`;
      await control.hub.sendCommand({ deviceId: 'header', text: 'unread' });
      expect((await curl(daemon, path, ['--head', '--header', own])).status).toBe(404);
      expect((await curl(daemon, path, ['--header', own])).body).toBe('unread');
    });

    it('refuses a batch that is too large by its properties', async () => {
      const message = { body: 'YQ==', properties: { 'iothub-app-p': 'y'.repeat(3000) } };
      const type = ['--header', authorization, '--header', 'Content-Type: application/vnd.microsoft.iothub.json'];
      const answer = await post(
        `${telemetry}?${VERSION}`,
        type,
        JSON.stringify(Array.from({ length: 100 }, () => message)),
      );
      expect([answer.status, answer.header('iothub-errorcode')]).toEqual([413, 'MessageTooLarge']);
    });

    it.each([
      ['no api-version', telemetry, [], 400, 'InvalidProtocolVersion'],
      ['an api-version that is none', `${telemetry}?api-version=latest`, [], 400, 'InvalidProtocolVersion'],
      ['another device', `/devices/other/messages/events?${VERSION}`, [], 401, 'IotHubUnauthorizedAccess'],
      ['an address that cannot be read', `/devices/%zz/messages/events?${VERSION}`, [], 400, 'ArgumentInvalid'],
      ['an id that is none', `/devices/a%2Fb/messages/events?${VERSION}`, [], 400, 'ArgumentInvalid'],
      ['no such address', `/devices/plain/messages?${VERSION}`, [], 404, 'GenericNotFound'],
    ])('answers %s', async (_what, path, args, status, code) => {
      const answer = await post(path, ['--header', authorization, ...args], 'x');
      expect([answer.status, answer.header('iothub-errorcode')]).toEqual([status, code]);
      expect(JSON.parse(answer.body)).toMatchObject({
        Message: expect.stringMatching(new RegExp(`^ErrorCode:${code};`)) as unknown,
        ExceptionMessage: expect.stringMatching(/^Tracking ID:[0-9a-f]{32}-G:0-TimeStamp:/) as unknown,
      });
    });

    it('refuses credentials that are none, late or for something else', async () => {
      const { key } = await newDevice('guarded');
      const path = `/devices/guarded/messages/events?${VERSION}`;
      const status = async (credential: string | undefined): Promise<number> =>
        (await post(path, credential === undefined ? [] : ['--header', `Authorization: ${credential}`], 'x')).status;
      expect(await status(undefined)).toBe(401);
      expect(await status('Bearer eyJhbGciOiJub25lIn0.e30.')).toBe(401);
      expect(await status('SharedAccessSignature nonsense')).toBe(401);
      expect(await status(token(key, '/devices/guarded', { expiresInMs: -600_000 }))).toBe(401);
      expect(await status(token(key, '/devices/guarded/messages/devicebound'))).toBe(401);
      expect(await status(token(Buffer.alloc(32, 9).toString('base64'), '/devices/guarded'))).toBe(401);
      expect(await status(token(daemon.ownerKey, '', { policy: 'iothubowner' }))).toBe(204);
      expect(await status(token(key, '/devices/guarded/messages/events'))).toBe(204);
    });

    it('lets a device do nothing of a back end, and a policy only what it may', async () => {
      const read = async (path: string, header: string): Promise<number> =>
        (await curl(daemon, `${path}?${VERSION}`, ['--header', header])).status;
      expect(await read('/devices/plain', authorization)).toBe(401);
      expect(await read('/twins/plain', authorization)).toBe(401);
      const { text } = await control.hub.connectionString({ of: 'policy', policy: 'registryRead' });
      const key = /SharedAccessKey=(.*)$/.exec(text)?.[1] ?? '';
      const registryRead = `Authorization: ${token(key, '', { policy: 'registryRead' })}`;
      expect(await read('/devices/plain', registryRead)).toBe(200);
      expect(await read('/twins/plain', registryRead)).toBe(401);
      const deletion = await curl(daemon, `/devices/plain?${VERSION}`, [
        '--request',
        'DELETE',
        '--header',
        registryRead,
      ]);
      expect([deletion.status, deletion.header('iothub-errorcode')]).toEqual([401, 'IotHubUnauthorizedAccess']);
      expect(deletion.body).toContain("Authorization rule 'registryRead' does not allow access for 'RegistryWrite'.");
    });

    it('bounds bodies, and reads none of who is not let in', async () => {
      const large = 'x'.repeat(300_000);
      const refused = await post(`${telemetry}?${VERSION}`, ['--header', authorization], large);
      expect([refused.status, refused.header('iothub-errorcode')]).toEqual([413, 'MessageTooLarge']);
      const huge = await post(`${telemetry}?${VERSION}`, ['--header', authorization], 'x'.repeat(2_000_000));
      expect([huge.status, huge.header('iothub-errorcode')]).toEqual([413, 'MessageTooLarge']);
      const bad = ['--header', authorization, '--header', 'Content-Type: application/vnd.microsoft.iothub.json'];
      for (const body of [
        '',
        '{',
        '{}',
        '[]',
        '[{"body":1}]',
        '[{"body":"***"}]',
        '[{"body":"YQ==","properties":{"a":1}}]',
      ]) {
        expect([(await post(`${telemetry}?${VERSION}`, bad, body)).status, body]).toEqual([400, body]);
      }
    });

    it('regenerates keys, which ends the old ones at once', async () => {
      const { authorization: old } = await newDevice('rotated');
      const owner = `Authorization: ${token(daemon.ownerKey, '', { policy: 'iothubowner' })}`;
      const send = async (): Promise<number> =>
        (await post(`/devices/rotated/messages/events?${VERSION}`, ['--header', old], 'x')).status;
      expect(await send()).toBe(204);
      const body = JSON.stringify({ policyKey: 'primaryKey', devices: [{ id: 'rotated' }, { id: 'nobody' }] });
      const answer = await post('/devices/keys/regenerate?api-version=2024-03-31', ['--header', owner], body);
      expect([answer.status, JSON.parse(answer.body)]).toMatchObject([
        207,
        {
          policyKey: 'primaryKey',
          rotatedKeys: [{ id: 'rotated' }],
          errors: [{ id: 'nobody', errorCode: 'DeviceNotFound' }],
        },
      ]);
      expect(await send()).toBe(401);
    });

    it('lets a module call methods of its own gateway and of those behind it only', async () => {
      const edge = await control.hub.createIdentity({ deviceId: 'edge', capabilities: { iotEdge: true } });
      const scope = 'deviceScope' in edge ? (edge.deviceScope ?? '') : '';
      await control.hub.createIdentity({ deviceId: 'behind', deviceScope: scope });
      const { authentication } = await control.hub.createIdentity({ deviceId: 'edge', moduleId: 'caller' });
      const key = authentication.type === 'sas' ? authentication.symmetricKey.primaryKey : '';
      const call = async (target: string): Promise<readonly [number, string | undefined]> => {
        const headers = [
          `Authorization: ${token(key, '/devices/edge/modules/caller')}`,
          'x-ms-edge-moduleId: edge/caller',
          'Content-Type: application/json',
        ];
        const body = JSON.stringify({ methodName: 'm', payload: null, responseTimeoutInSeconds: 5 });
        // No api-version: the SDK for Node sends none here.
        const answer = await post(
          `/twins/${target}/methods`,
          headers.flatMap((header) => ['--header', header]),
          body,
        );
        return [answer.status, answer.header('iothub-errorcode')];
      };
      expect(await call('edge')).toEqual([404, 'DeviceNotOnline']);
      expect(await call('behind')).toEqual([404, 'DeviceNotOnline']);
      expect(await call('plain')).toEqual([401, 'IotHubUnauthorizedAccess']);
    });

    it('answers others while one client sends its request a byte at a time', async () => {
      const slow = connect({ host: ADDRESS, port: HTTPS_PORT, servername: HUB_HOST_NAME, ca: daemon.authority });
      slow.on('error', () => {});
      slow.write(
        `POST ${telemetry}?${VERSION} HTTP/1.1\r\nHost: ${HUB_HOST_NAME}\r\n${authorization}\r\nContent-Length: 10\r\n\r\n1`,
      );
      expect((await post(`${telemetry}?${VERSION}`, ['--header', authorization], 'meanwhile')).status).toBe(204);
      slow.destroy();
    });
  });
});
