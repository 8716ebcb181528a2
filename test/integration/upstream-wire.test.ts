// The ways to a broker: TLS, client certificates, WebSockets, an HTTP proxy, credentials; and a bad line in between.

import { describe, expect, it } from 'vitest';
import type { MqttUpstreamConfig } from '../../modules/upstream-mqtt/config.ts';
import { startTcpProxy } from '../sim/tcp-proxy.ts';
import { createAuthority } from '../support/certificates.ts';
import { startHttpProxy } from '../support/http-proxy.ts';
import { startMosquitto } from '../support/mosquitto.ts';
import { createTempDir } from '../support/temp-dir.ts';
import { mqttTransport, startRig, subscribe } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.50.2';

/** Opens once; resolves with the error's code and message, or `open`. */
async function attempt(config: Partial<MqttUpstreamConfig> & { url: string }): Promise<string> {
  const transport = mqttTransport(config);
  try {
    await transport.open(AbortSignal.timeout(10_000));
    return 'open';
  } catch (error) {
    return `${(error as { code: string }).code} ${(error as Error).message}`;
  } finally {
    await transport.close();
  }
}

async function delivers(config: Partial<MqttUpstreamConfig> & { url: string }): Promise<void> {
  await using rig = startRig(mqttTransport(config));
  await rig.append(300);
  await rig.drained();
  expect(rig.runner.status().deliveredTotal).toBe(300);
}

describe('TLS', () => {
  it('delivers with a trusted authority and a client certificate, and says what is wrong otherwise', async () => {
    using directory = createTempDir('upstream-tls');
    const authority = await createAuthority(directory.path);
    const stranger = await createAuthority(directory.path, 'stranger');
    const server = await authority.issue({ name: 'server', hosts: [ADDRESS, 'broker.test'] });
    const client = await authority.issue({ name: 'client' });
    const foreign = await stranger.issue({ name: 'foreign' });
    await using broker = await startMosquitto({
      address: ADDRESS,
      tls: { ...server, clientCaPath: authority.certificatePath },
    });
    const ca = authority.certificate;
    const identity = { ca, certificate: client.certificate, key: client.key };
    await delivers({ url: broker.url, ...identity });
    expect(await attempt({ url: broker.url, ...identity, server_name: 'broker.test' })).toBe('open');
    expect(await attempt({ url: broker.url, ...identity, server_name: 'other.test' })).toMatch(
      /^GW_TLS .*another name/,
    );
    expect(await attempt({ url: broker.url, ...identity, ca: stranger.certificate })).toMatch(/^GW_TLS .*not trusted/);
    expect(await attempt({ url: broker.url, ca })).toMatch(/^GW_TLS .*client certificate/);
    expect(await attempt({ url: broker.url, ca, certificate: foreign.certificate, key: foreign.key })).toMatch(
      /^GW_TLS .*client certificate/,
    );
    expect(await attempt({ url: broker.url.replace('mqtts', 'mqtt') })).toMatch(/^GW_DISCONNECTED|^GW_PROTOCOL/);
  });

  it('refuses an expired certificate and a port without TLS', async () => {
    using directory = createTempDir('upstream-tls');
    const authority = await createAuthority(directory.path);
    const server = await authority.issue({ name: 'server', hosts: [ADDRESS], days: 0 });
    await using expired = await startMosquitto({ address: ADDRESS, tls: server });
    expect(await attempt({ url: expired.url, ca: authority.certificate })).toMatch(/^GW_TLS .*expired/);
    const ended = await authority.issue({ name: 'ended', days: -1 });
    const own = { certificate: ended.certificate, key: ended.key };
    expect(await attempt({ url: expired.url, ca: authority.certificate, ...own })).toMatch(
      /^GW_TLS Our own certificate for .* ended on 20\d\d-\d\d-\d\d/,
    );
    await using plain = await startMosquitto({ address: ADDRESS });
    expect(await attempt({ url: plain.url.replace('mqtt', 'mqtts'), connect_timeout_ms: 1000 })).toMatch(
      /^GW_(?:TLS|DISCONNECTED|TIMEOUT) /,
    );
  });
});

describe('credentials', () => {
  it.each(['3.1.1', 5] as const)(
    'are refused visibly in MQTT %s, and the peer is left alone',
    async (protocol_version) => {
      await using broker = await startMosquitto({ address: ADDRESS, users: { plant: 'secret-1' } });
      expect(await attempt({ url: broker.url, protocol_version, username: 'plant', password: 'secret-1' })).toBe(
        'open',
      );
      await using rig = startRig(
        mqttTransport({ url: broker.url, protocol_version, username: 'plant', password: 'wrong-1' }),
      );
      await waitFor(() => rig.runner.status().state === 'backing_off');
      const status = rig.runner.status();
      expect(status.kind).toBe('unauthorized');
      expect(status.nextAttemptMs).toBeGreaterThan(100);
      expect(rig.runner.health().reason).toMatch(/refused/);
      expect(JSON.stringify(rig.telemetry.events)).not.toContain('wrong-1');
    },
  );
});

describe('WebSockets', () => {
  it.each(['3.1.1', 5] as const)('carry MQTT %s', async (protocol_version) => {
    await using broker = await startMosquitto({ websockets: true });
    await delivers({ url: `${broker.url}/mqtt`, protocol_version });
  });
});

describe('an HTTP proxy', () => {
  it('is gone through, with credentials', async () => {
    await using broker = await startMosquitto({ address: ADDRESS });
    await using proxy = await startHttpProxy(ADDRESS, 200, `Basic ${Buffer.from('user:pass').toString('base64')}`);
    await delivers({ url: broker.url, proxy: { url: proxy.url, username: 'user', password: 'pass' } });
    expect(proxy.connects).toContain(`${ADDRESS}:${broker.port}`);
    expect(await attempt({ url: broker.url, proxy: { url: proxy.url } })).toMatch(/^GW_UNAUTHORIZED .*407/);
  });

  it('that refuses or fails is told apart', async () => {
    await using forbidden = await startHttpProxy(ADDRESS, 403);
    expect(await attempt({ url: 'mqtt://broker.test', proxy: { url: forbidden.url } })).toMatch(
      /^GW_UNAUTHORIZED .*403/,
    );
    await using failing = await startHttpProxy(ADDRESS, 502);
    expect(await attempt({ url: 'mqtt://broker.test', proxy: { url: failing.url } })).toMatch(/^GW_CONNECT .*502/);
  });

  it('that refuses the credentials is asked once an attempt, and left alone for longer and longer', async () => {
    await using proxy = await startHttpProxy(ADDRESS, 407);
    await using rig = startRig(mqttTransport({ url: 'mqtt://127.0.51.1:1', proxy: { url: proxy.url } }));
    await waitFor(() => rig.runner.status().failedAttempts === 2 && rig.runner.status().state === 'backing_off');
    expect(proxy.connects).toHaveLength(2);
    expect(rig.runner.status()).toMatchObject({ kind: 'unauthorized' });
    expect(rig.runner.status().nextAttemptMs).toBeGreaterThan(500);
  });
});

describe('a bad line', () => {
  it('that cuts in the middle of packets loses nothing', async () => {
    await using broker = await startMosquitto({ address: ADDRESS });
    await using witness = await subscribe(broker.url);
    await using line = await startTcpProxy({ address: ADDRESS, target: { host: broker.address, port: broker.port } });
    await using rig = startRig(mqttTransport({ url: `mqtt://${line.address}:${line.port}` }));
    const wanted: string[] = [];
    for (let round = 0; round < 8; round += 1) {
      await waitFor(() => rig.runner.status().state === 'connected');
      line.cutAfter('up', 3000 + round * 777);
      wanted.push(...(await rig.append(200, `r${round}-`)));
      await waitFor(() => rig.telemetry.of('endpoint_disconnected').length > round);
    }
    await rig.drained();
    await waitFor(() => wanted.every((text) => witness.texts().includes(text)));
    expect(witness.received.length - wanted.length).toBeLessThanOrEqual(8 * 256);
  });

  it('that corrupts bytes loses nothing that was acknowledged as it is', async () => {
    await using broker = await startMosquitto({ address: ADDRESS });
    await using line = await startTcpProxy({ address: ADDRESS, target: { host: broker.address, port: broker.port } });
    await using rig = startRig(mqttTransport({ url: `mqtt://${line.address}:${line.port}`, ack_timeout_ms: 1000 }));
    await waitFor(() => rig.runner.status().state === 'connected');
    line.corrupt('down', 40);
    await rig.append(500);
    await waitFor(() => rig.telemetry.of('endpoint_disconnected').length > 0);
    line.pass();
    await rig.drained();
    expect(rig.runner.status().deliveredTotal).toBe(500);
  });

  it('that goes silent is given up by the acknowledgement timeout', async () => {
    await using broker = await startMosquitto({ address: ADDRESS });
    await using line = await startTcpProxy({ address: ADDRESS, target: { host: broker.address, port: broker.port } });
    await using rig = startRig(
      mqttTransport({ url: `mqtt://${line.address}:${line.port}`, ack_timeout_ms: 1000, connect_timeout_ms: 1000 }),
    );
    await waitFor(() => rig.runner.status().state === 'connected');
    line.blackHole();
    await rig.append(50);
    await waitFor(() => rig.runner.status().state !== 'connected');
    line.pass();
    line.cut();
    await rig.drained();
    expect(rig.runner.status().deliveredTotal).toBe(50);
  });
});

describe('an idle connection', () => {
  it('that went silent is noticed by the keep-alive', async () => {
    await using broker = await startMosquitto({ address: ADDRESS });
    await using rig = startRig(mqttTransport({ url: broker.url, keepalive_secs: 5, connect_timeout_ms: 1000 }));
    await waitFor(() => rig.runner.status().state === 'connected');
    broker.pause();
    await waitFor(() => rig.runner.status().state !== 'connected', { timeoutMs: 20_000 });
    broker.resume();
    await rig.append(1);
    await rig.drained();
  });
});

describe('a dead endpoint', () => {
  it('stops within the deadline', async () => {
    await using broker = await startMosquitto({ address: ADDRESS });
    const rig = startRig(mqttTransport({ url: broker.url }));
    await rig.append(10);
    await rig.drained();
    broker.pause();
    await rig.append(10);
    await waitFor(() => rig.runner.status().inFlight > 0);
    const startedMs = performance.now();
    await rig.runner.stop(AbortSignal.timeout(300));
    // Without the deadline it would wait five seconds for what is in flight.
    expect(performance.now() - startedMs).toBeLessThan(5000);
    expect(rig.outbox.queue('$upstream').stats()).toMatchObject({ messages: 10, inFlight: 0 });
    broker.resume();
    await rig.outbox.close();
  });
});
