// The AMQP transport against a real RabbitMQ: the conformance suite of endpoints, TLS, credentials, and losses.
//
// Debian's ActiveMQ (12, activemq 5.17.2+dfsg-2+deb12u1) speaks no AMQP: neither activemq-amqp nor proton-j is packaged. With
// `<transportConnector uri="amqp://127.0.0.1:5672"/>` the broker does not start: `Transport scheme NOT recognized: [amqp]`,
// `Could not find factory class for resource: META-INF/services/org/apache/activemq/transport/amqp`.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BAD_LINK_WINDOW, badLinkSuite, type BadLinkRig } from '../conformance/bad-link.suite.ts';
import { endpointSuite } from '../conformance/endpoint.suite.ts';
import { startTcpProxy } from '../sim/tcp-proxy.ts';
import { amqpTransport, witnessAmqp } from '../support/amqp-rig.ts';
import { createAuthority, type Authority } from '../support/certificates.ts';
import { RABBITMQ_USER, RABBITMQ_WITNESS, startRabbitMq, type RabbitMq } from '../support/rabbitmq.ts';
import { createTempDir } from '../support/temp-dir.ts';
import { hastyClock, startRig, stored } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.142.1';
const SOON = (): AbortSignal => AbortSignal.timeout(10_000);
/** One for each test, so that none meets what another left. */
const QUEUES = Array.from({ length: 17 }, (_, index) => `queue-${index}`);

let broker: RabbitMq;
let used = 0;

function nextQueue(): string {
  used += 1;
  return `/amq/queue/${QUEUES[used - 1] ?? ''}`;
}

const directory = createTempDir('upstream-amqp');
let authority: Authority;

beforeAll(async () => {
  authority = await createAuthority(directory.path);
  const server = await authority.issue({ name: 'server', hosts: [ADDRESS] });
  broker = await startRabbitMq({
    address: ADDRESS,
    queues: QUEUES,
    tls: { ...server, caPath: authority.certificatePath },
  });
}, 60_000);

afterAll(async () => {
  await broker[Symbol.asyncDispose]();
  directory.remove();
});

endpointSuite('upstream-amqp', async () => {
  const address = nextQueue();
  const witness = await witnessAmqp(broker, RABBITMQ_WITNESS, address);
  return {
    endpoint: amqpTransport({ url: broker.url, ...RABBITMQ_USER, address, window: 16 }),
    arrived: () => witness.texts,
    stop: () => broker.stop(),
    start: () => broker.start(),
    pause: () => broker.pause(),
    resume: () => broker.resume(),
    [Symbol.asyncDispose]: async () => {
      witness[Symbol.dispose]();
      await broker.start();
    },
  };
});

async function badLink(): Promise<BadLinkRig> {
  const address = nextQueue();
  const witness = await witnessAmqp(broker, RABBITMQ_WITNESS, address);
  const proxy = await startTcpProxy({ target: { host: ADDRESS, port: broker.tlsPort }, address: ADDRESS });
  return {
    transport: amqpTransport({
      url: `amqps://${ADDRESS}:${proxy.port}`,
      ca: authority.certificate,
      ...RABBITMQ_USER,
      address,
      window: BAD_LINK_WINDOW,
      idle_timeout_secs: 5,
    }),
    proxy,
    arrived: () => witness.texts,
    [Symbol.asyncDispose]: async () => {
      witness[Symbol.dispose]();
      await proxy.close();
    },
  };
}

badLinkSuite('upstream-amqp at RabbitMQ', badLink, process.env['FIELDPOST_FULL'] === '1');

describe('upstream-amqp at RabbitMQ', () => {
  it('names wrong credentials, a mechanism that is not offered, and a virtual host that is not there', async () => {
    const address = nextQueue();
    const open = (more: object): Promise<void> => amqpTransport({ url: broker.url, address, ...more }).open(SOON());
    await expect(open({ ...RABBITMQ_USER, password: 'wrong' })).rejects.toMatchObject({ code: 'GW_UNAUTHORIZED' });
    await expect(open({ sasl: 'anonymous' })).rejects.toMatchObject({
      code: 'GW_UNAUTHORIZED',
      message: expect.stringContaining('PLAIN') as string,
    });
    const elsewhere = amqpTransport({ url: broker.url, address, ...RABBITMQ_USER, host_name: 'vhost:absent' });
    // RabbitMQ looks for it with the first session.
    await elsewhere.open(SOON());
    expect(await elsewhere.send([stored('x')], SOON())).toMatchObject([{ status: 'retry' }]);
    expect(await elsewhere.closed()).toMatchObject({ kind: 'unauthorized' });
  });

  it('speaks TLS, and knows a client by its certificate', async () => {
    const address = nextQueue();
    const ca = authority.certificate;
    const own = await authority.issue({ name: RABBITMQ_USER.username });
    const foreign = await authority.issue({ name: 'nobody' });
    const open = async (more: object): Promise<unknown> => {
      const transport = amqpTransport({ url: broker.secureUrl, address, ...more });
      await transport.open(SOON());
      const results = await transport.send([stored('x')], SOON());
      await transport.close();
      return results;
    };
    expect(await open({ ca, ...RABBITMQ_USER })).toEqual([{ status: 'accepted' }]);
    expect(await open({ ca, certificate: own.certificate, key: own.key })).toEqual([{ status: 'accepted' }]);
    await expect(open({ ca, certificate: foreign.certificate, key: foreign.key })).rejects.toMatchObject({
      code: 'GW_UNAUTHORIZED',
    });
    await expect(open(RABBITMQ_USER)).rejects.toMatchObject({ code: 'GW_TLS' });
    const expired = await authority.issue({ name: RABBITMQ_USER.username, days: 0 });
    await expect(open({ ca, certificate: expired.certificate, key: expired.key })).rejects.toMatchObject({
      code: 'GW_TLS',
      message: expect.stringContaining('Our own certificate') as string,
    });
  });

  it('keeps everything while its password is not taken any more, says so, and goes on with it', async () => {
    const address = nextQueue();
    const witness = await witnessAmqp(broker, RABBITMQ_WITNESS, address);
    await using proxy = await startTcpProxy({ target: { host: broker.address, port: broker.port }, address: ADDRESS });
    const url = `amqp://${proxy.address}:${proxy.port}`;
    await using rig = startRig(amqpTransport({ url, ...RABBITMQ_USER, address }), 'live_first', hastyClock);
    const sent = await rig.append(50, 'before-');
    await rig.drained();
    const { username, password } = RABBITMQ_USER;
    await broker.control('change_password', username, 'another');
    // Who is logged in stays so.
    proxy.cut();
    sent.push(...(await rig.append(50, 'during-')));
    await waitFor(() => rig.runner.status().reason?.includes('refused') === true, { timeoutMs: 20_000 });
    expect(rig.runner.status().state).not.toBe('connected');
    await broker.control('change_password', username, password);
    await rig.drained();
    await waitFor(() => new Set(witness.texts).size === sent.length, { timeoutMs: 20_000, what: 'all to arrive' });
    expect(rig.telemetry.of('message_rejected')).toEqual([]);
    witness[Symbol.dispose]();
  });

  it('loses nothing when the broker is killed in the middle', async () => {
    const address = nextQueue();
    const witness = await witnessAmqp(broker, RABBITMQ_WITNESS, address);
    await using rig = startRig(amqpTransport({ url: broker.url, ...RABBITMQ_USER, address, window: 64 }));
    const sent = await rig.append(3000, 'a');
    await waitFor(() => witness.texts.length > 300, { what: 'the first messages' });
    await broker.kill();
    sent.push(...(await rig.append(500, 'b')));
    await broker.start();
    await rig.drained(40_000);
    await waitFor(() => new Set(witness.texts).size === sent.length, { timeoutMs: 30_000, what: 'all to arrive' });
    expect(new Set(witness.texts)).toEqual(new Set(sent));
    // What came twice came with the same id.
    expect(new Set(witness.ids).size).toBe(sent.length);
    witness[Symbol.dispose]();
  });
});
