// The MQTT head through the published SDK for devices, over TLS and over WebSockets, against the daemon.

import { X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createEvents } from '../../src/hub/events.ts';
import { eventsStream, partitionOf } from '../../src/iothub/events-stream.ts';
import type { HubEvent } from '../../src/core/hub/messaging.ts';
import { createAuthority, type KeyPair } from '../support/certificates.ts';
import {
  AMQPS_PORT,
  deviceConnectionString,
  HTTPS_PORT,
  HUB_HOST_NAME,
  MQTTS_PORT,
  startHubDaemon,
  type HubDaemon,
} from '../support/hub-daemon.ts';
import { openTestOutbox } from '../support/outbox.ts';
import { startBackEnd, startDevice, type SdkChild } from '../support/sdk-child.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.101.2';
const PORTS = [AMQPS_PORT, HTTPS_PORT, MQTTS_PORT];
const KEY = Buffer.alloc(32, 5).toString('base64');
const SAS = { symmetricKey: { primaryKey: KEY, secondaryKey: Buffer.alloc(32, 6).toString('base64') } };

describe.each(['mqtt', 'mqtt-ws'] as const)('azure-iot-device over %s', (transport) => {
  let directory: TempDir;
  let daemon: HubDaemon;
  let backEnd: SdkChild;
  let device: SdkChild;
  let certificate: KeyPair;
  const registry = (name: string, ...args: readonly unknown[]): Promise<unknown> =>
    backEnd.call('registry', name, ...args);

  beforeAll(async () => {
    directory = createTempDir('hub-mqtt-sdk');
    daemon = await startHubDaemon({ address: ADDRESS, directory, ports: PORTS });
    backEnd = startBackEnd({ hub: daemon });
    await backEnd.call('openRegistry', daemon.owner);
    await backEnd.call('openClient', daemon.owner);
    await registry('create', { deviceId: 'd1', authentication: SAS });
    const authority = await createAuthority(directory.path, 'own');
    certificate = await authority.issue({ name: 'd2' });
    const primaryThumbprint = new X509Certificate(certificate.certificate).fingerprint.replaceAll(':', '');
    const x509Thumbprint = { primaryThumbprint, secondaryThumbprint: null };
    await registry('create', { deviceId: 'd2', authentication: { type: 'selfSigned', x509Thumbprint } });
    device = startDevice({ hub: daemon });
    await device.call('open', deviceConnectionString('d1', KEY), transport);
  });

  afterAll(async () => {
    await device.kill();
    await backEnd.kill();
    await daemon.kill('SIGKILL');
    directory.remove();
  });

  it('sends telemetry with all properties, several at once too', async () => {
    const system = {
      messageId: 'mid 1',
      correlationId: 'cid',
      userId: 'u',
      contentType: 'application/json',
      contentEncoding: 'utf-8',
    };
    await device.call('send', { body: '{"v":1}', properties: { 'a b': 'c&d/é' }, system });
    await Promise.all(['one', 'two'].map((body) => device.call('send', { body })));
    expect(await registry('get', 'd1')).toMatchObject({ connectionState: 'Connected' });
  });

  it('refuses what is larger than a message may be, and goes on', async () => {
    await expect(device.call('send', { body: 'x'.repeat(262_145) })).rejects.toMatchObject({
      name: 'MessageTooLargeError',
    });
    await device.call('send', { body: 'x'.repeat(262_000) });
  });

  it('reads its twin, reports, and hears of desired properties', async () => {
    await backEnd.call('registry', 'updateTwin', 'd1', { properties: { desired: { interval: 5 } } }, '*');
    expect(await device.call('getTwin')).toMatchObject({ desired: { interval: 5, $version: 2 } });
    await device.call('onDesired');
    await device.nextEvent('desired');
    await device.call('report', { fw: '1.2', nested: { on: true }, gone: null });
    expect(await registry('getTwin', 'd1')).toMatchObject({
      properties: { reported: { fw: '1.2', nested: { on: true }, $version: 2 } },
    });
    await registry('updateTwin', 'd1', { properties: { desired: { interval: 7, more: { a: [1, 2] } } } }, '*');
    expect(await device.nextEvent<{ interval?: number }>('desired', ({ interval }) => interval === 7)).toMatchObject({
      interval: 7,
      more: { a: [1, 2] },
      $version: 3,
    });
    await expect(device.call('report', { 'bad.key': 1 })).rejects.toThrow(/bad\.key|400|InvalidPatch|Argument/i);
    await device.call('report', { fw: '1.3' });
  });

  it('answers methods', async () => {
    await device.call('onMethod', 'reboot', { status: 200, payload: { done: true } });
    await device.call('onMethod', 'silent', {});
    // The SDK tells nobody when the hub has its subscription.
    const call = {
      methodName: 'reboot',
      payload: { in: 5 },
      responseTimeoutInSeconds: 10,
      connectTimeoutInSeconds: 10,
    };
    expect(await backEnd.call('invoke', 'd1', call)).toEqual({ status: 200, payload: { done: true } });
    expect(await device.nextEvent('method')).toEqual({ name: 'reboot', payload: { in: 5 } });
    const silent = { methodName: 'silent', payload: null, responseTimeoutInSeconds: 5 };
    await expect(backEnd.call('invoke', 'd1', silent)).rejects.toMatchObject({ name: expect.any(String) as unknown });
  });

  it('takes cloud-to-device messages, those too that were sent while it was away', async () => {
    const waiting = async (): Promise<unknown> =>
      ((await registry('get', 'd1')) as { cloudToDeviceMessageCount: number }).cloudToDeviceMessageCount;
    await device.call('onCommands', 'complete');
    const system = { messageId: 'c1', correlationId: 'cid', contentType: 'text/plain', contentEncoding: 'utf-8' };
    await backEnd.call('sendCommand', 'd1', { body: 'go', properties: { 'k&': 'v w=' }, system });
    expect(await device.nextEvent('command')).toMatchObject({
      ...system,
      body: 'go',
      properties: { 'k&': 'v w=' },
      to: '/devices/d1/messages/deviceBound',
    });
    await expect.poll(waiting).toBe(0);
    await device.call('close');
    for (const body of ['first', 'second']) await backEnd.call('sendCommand', 'd1', { body });
    expect(await waiting()).toBe(2);
    await device.call('reopen');
    expect(await device.nextEvent('command')).toMatchObject({ body: 'first' });
    expect(await device.nextEvent('command')).toMatchObject({ body: 'second' });
    await expect.poll(waiting).toBe(0);
  });

  it('proves itself by a certificate', async () => {
    await using other = startDevice({ hub: daemon });
    const proof = { cert: certificate.certificatePath, key: certificate.keyPath };
    await other.call('open', `HostName=${HUB_HOST_NAME};DeviceId=d2;x509=true`, transport, proof);
    await other.call('send', { body: 'by certificate' });
    await other.call('close');
  });

  it('is refused with a wrong key, and cut off when the device is disabled', async () => {
    await using wrong = startDevice({ hub: daemon });
    const stranger = deviceConnectionString('d1', Buffer.alloc(32, 9).toString('base64'));
    await expect(wrong.call('open', stranger, transport)).rejects.toMatchObject({ name: 'UnauthorizedError' });
    await registry('create', { deviceId: 'd3', authentication: SAS });
    await using third = startDevice({ hub: daemon });
    await third.call('open', deviceConnectionString('d3', KEY), transport);
    await third.call('neverRetry');
    await registry('update', { deviceId: 'd3', status: 'disabled' });
    // Its token would have let it stay for an hour.
    await third.nextEvent('disconnect');
  });

  it('renews its token on a new connection, and the hub ends the one whose token is over', async () => {
    await device.call('getTwin');
    await device.call('onDesired');
    interface Presence {
      readonly connectionState: string;
      readonly connectionStateUpdatedTime: string;
    }
    /** When the device connected last; undefined while it is away. */
    const since = async (): Promise<unknown> => {
      const { connectionState, connectionStateUpdatedTime } = (await registry('get', 'd1')) as Presence;
      return connectionState === 'Connected' ? connectionStateUpdatedTime : undefined;
    };
    const changed = async (from: unknown): Promise<unknown> => {
      let now: unknown;
      await waitFor(async () => (now = await since()) !== from && now !== undefined);
      return now;
    };
    const before = await since();
    await device.call('setOptions', {
      tokenRenewal: { tokenValidTimeInSeconds: 3600, tokenRenewalMarginInSeconds: 3598 },
    });
    const renewed = await changed(before);
    await changed(renewed);
    await device.call('setOptions', {
      tokenRenewal: { tokenValidTimeInSeconds: 3600, tokenRenewalMarginInSeconds: 900 },
    });
    await device.call('send', { body: 'with a new token' });
    await registry('updateTwin', 'd1', { properties: { desired: { after: 'renewal' } } }, '*');
    await device.nextEvent<{ after?: string }>('desired', ({ after }) => after === 'renewal');
  });

  it('speaks as a module: outputs, twin and methods', async () => {
    await registry('addModule', { deviceId: 'd1', moduleId: 'm1', authentication: SAS });
    await using module = startDevice({ hub: daemon });
    await module.call('open', deviceConnectionString('d1', KEY, 'm1'), transport);
    await module.call('sendOutput', 'out1', { body: 'from a module' });
    await module.call('getTwin');
    await module.call('report', { ready: true });
    await module.call('onMethod', 'ping', { status: 201, payload: 'pong' });
    const call = { methodName: 'ping', payload: null, connectTimeoutInSeconds: 10 };
    expect(await backEnd.call('invokeModule', 'd1', 'm1', call)).toMatchObject({ status: 201, payload: 'pong' });
    await module.call('close');
  });

  it('loses nothing that was acknowledged when the daemon is killed, and comes back by itself', async () => {
    const acknowledged: string[] = [];
    let isOver = false;
    const sending = (async () => {
      for (let n = 0; !isOver; n += 1) {
        // The SDK tries again for as long as it takes.
        await device.call('send', { body: `kill-${n}` });
        acknowledged.push(`kill-${n}`);
      }
    })();
    for (let life = 0; life < 2; life += 1) {
      const before = acknowledged.length;
      await expect.poll(() => acknowledged.length, { timeout: 30_000 }).toBeGreaterThan(before + 20);
      await daemon.kill('SIGKILL');
      daemon = await startHubDaemon({ address: ADDRESS, directory, ports: PORTS });
    }
    const before = acknowledged.length;
    await expect.poll(() => acknowledged.length, { timeout: 30_000 }).toBeGreaterThan(before + 20);
    isOver = true;
    await sending;
    expect(await device.call('getTwin')).toMatchObject({ reported: { fw: '1.3' } });
    await device.call('close');
    await daemon.kill('SIGKILL');
    const events = await storedEvents(daemon.dataDirectory, 'd1');
    const texts = events.map(({ body }) => Buffer.from(body).toString());
    const missing = acknowledged.filter((text) => !texts.includes(text));
    expect(missing).toEqual([]);
    expect(events.find(({ body }) => Buffer.from(body).toString() === '{"v":1}')).toMatchObject({
      properties: { 'a b': 'c&d/é' },
      systemProperties: {
        messageId: 'mid 1',
        correlationId: 'cid',
        userId: 'u',
        contentType: 'application/json',
        contentEncoding: 'utf-8',
      },
      stamps: { 'iothub-connection-device-id': 'd1', 'iothub-message-source': 'Telemetry' },
    });
    expect(texts).toEqual(expect.arrayContaining(['one', 'two', 'from a module']));
  });
});

/** All that a device sent, read from the store of a daemon that is gone. */
async function storedEvents(dataDirectory: string, deviceId: string): Promise<readonly HubEvent[]> {
  const outbox = await openTestOutbox(`${dataDirectory}/db/log`, { queues: [] });
  try {
    await outbox.setStreams([{ name: eventsStream('hub'), partitions: 4, retentionSecs: 86_400, maxBytes: 2 ** 29 }]);
    const events = createEvents({ outbox });
    const found: HubEvent[] = [];
    for (;;) {
      const limit = { maxMessages: 1000, maxBytes: 1e7 };
      const next = await events.read('hub', partitionOf(deviceId, 4), found.length, limit, AbortSignal.timeout(300));
      if (next.length === 0) return found;
      found.push(...next);
    }
  } finally {
    await outbox.close();
  }
}
