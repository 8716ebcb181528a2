// The contract in both modes: as the broker that a device connects to, and as a client of a Mosquitto beside the device.

import { connectAsync, type IClientOptions, type MqttClient } from 'mqtt';
import { createMqttAdapter } from '../../modules/mqtt/adapter.ts';
import { mqttConfig } from '../../modules/mqtt/config.ts';
import type { AdapterContext } from '../../src/core/adapter.ts';
import type { DeviceId } from '../../src/core/device.ts';
import { type AdapterSubject, describeAdapter } from '../conformance/adapter.suite.ts';
import { startTcpProxy } from '../sim/tcp-proxy.ts';
import { freePort } from '../support/free-port.ts';
import { startMosquitto } from '../support/mosquitto.ts';

const ADDRESS = '127.0.92.1';
const PUMP = 'pump' as DeviceId;
const PERIOD_MS = 50;

const SETTINGS = {
  topics: [
    {
      topic: 'pumps/{device_id}/state',
      points: { limit: { pointer: '/limit', type: 'integer', writable: true }, flow: { pointer: '/flow' } },
    },
  ],
  command: { topic: 'pumps/{device_id}/set', timeout_ms: 2000 },
  devices: { [PUMP]: {} },
  silent_after_secs: 1,
};

const POINTS = {
  point: { deviceId: PUMP, point: 'limit', value: 42 },
  readOnly: { deviceId: PUMP, point: 'flow', value: 1 },
};

/** A pump that tells its state all the time and takes a new limit. It tries to connect until it is told to go. */
class Pump {
  isSilent = false;
  connects = 0;
  readonly #url: string;
  readonly #options: IClientOptions;
  #limit = 10;
  #client: MqttClient | undefined;
  #running: Promise<void> | undefined;
  #stop = new AbortController();

  constructor(url: string, options: IClientOptions = {}) {
    this.#url = url;
    this.#options = options;
  }

  come(): void {
    if (this.#running !== undefined) return;
    this.#stop = new AbortController();
    this.#running = this.#run(this.#stop.signal);
  }

  async go(): Promise<void> {
    this.#stop.abort();
    await this.#client?.endAsync(true);
    await this.#running;
    this.#running = undefined;
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const client = await connectAsync(this.#url, {
        ...this.#options,
        reconnectPeriod: 0,
        connectTimeout: 1000,
      }).catch(() => undefined);
      if (client === undefined) {
        await pause(PERIOD_MS);
        continue;
      }
      this.#client = client;
      this.connects += 1;
      client.on('error', () => {});
      client.on('message', (_topic, payload) => {
        if (this.isSilent) return;
        this.#limit = (JSON.parse(payload.toString()) as { limit: number }).limit;
        this.#tell();
      });
      client.subscribe(`pumps/${PUMP}/set`);
      while (!signal.aborted && client.connected) {
        this.#tell();
        await pause(PERIOD_MS);
      }
      await client.endAsync(true);
    }
  }

  #tell(): void {
    if (this.isSilent) return;
    this.#client?.publish(`pumps/${PUMP}/state`, JSON.stringify({ limit: this.#limit, flow: 14.5 }));
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function createBroker(context: AdapterContext): Promise<AdapterSubject> {
  const port = await freePort(ADDRESS);
  const config = mqttConfig.parse({
    ...SETTINGS,
    listen: { address: ADDRESS, port },
    clients: [{ username: PUMP, password: 'pump-secret' }],
  });
  const pump = new Pump(`mqtt://${ADDRESS}:${port}`, { username: PUMP, password: 'pump-secret' });
  pump.come();
  return {
    ...POINTS,
    adapter: createMqttAdapter(config, { ...context, dataDirectory: '/dev/null' }),
    accepted: () => pump.connects,
    silence() {
      pump.isSilent = true;
    },
    vanish: () => pump.go(),
    restore() {
      pump.isSilent = false;
      pump.come();
      return Promise.resolve();
    },
    dispose: () => pump.go(),
  };
}

async function createClient(context: AdapterContext): Promise<AdapterSubject> {
  const broker = await startMosquitto({ address: ADDRESS });
  const line = await startTcpProxy({ target: { host: ADDRESS, port: broker.port }, address: ADDRESS });
  const pump = new Pump(broker.url);
  pump.come();
  const url = `mqtt://${line.address}:${line.port}`;
  const connect = { url, client_id: 'gateway', keepalive_secs: 5, connect_timeout_ms: 1000 };
  return {
    ...POINTS,
    adapter: createMqttAdapter(mqttConfig.parse({ ...SETTINGS, connect }), context),
    accepted: () => line.acceptedTotal,
    silence: () => line.blackHole(),
    vanish: () => line.refuse(),
    async restore() {
      line.pass();
      await line.listen();
    },
    async dispose() {
      await pump.go();
      await line.close();
      await broker[Symbol.asyncDispose]();
    },
  };
}

describeAdapter('mqtt as a broker', createBroker, { isUnsolicited: true, isServer: true });
describeAdapter('mqtt as a client', createClient, { isUnsolicited: true });
