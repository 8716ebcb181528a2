// The upstream to Azure IoT Hub against the heads of the local hub, through a proxy that cuts.

import type { z } from 'zod';
import { createIotHubTransport } from '../../modules/upstream-iothub/transport.ts';
import { iotHubUpstreamConfig } from '../../modules/upstream-iothub/config.ts';
import type { Clock } from '../../src/core/clock.ts';
import type { UpstreamTransport } from '../../src/core/endpoint.ts';
import { startTcpProxy, type TcpProxy } from '../sim/tcp-proxy.ts';
import { HOST, HUB } from './hub.ts';
import { hubMqttRig, type HubMqttRig } from './hub-mqtt-rig.ts';
import { clock as systemClock, endpointContext } from './upstream-rig.ts';

export const HUB_DEVICE = 'plant-7';

/** Of the configuration, as a person writes it. */
type Settings = Partial<z.input<typeof iotHubUpstreamConfig>>;

export interface IotHubRig extends AsyncDisposable {
  readonly hub: HubMqttRig;
  readonly proxy: TcpProxy;
  /** Base64 keys of the gateway's device at the hub. */
  readonly keys: { readonly primary: string; readonly secondary: string };
  /** As the hub's; its timers are the system's, its waits a hundredth as long. */
  readonly clock: Clock;
  /** A transport to the hub, through the proxy. */
  transport(config?: Settings, clock?: Clock): UpstreamTransport;
}

export type RigProtocol = 'amqp' | 'amqp_ws' | 'mqtt' | 'mqtt_ws';

/** @param address in 127.0.0.0/8, of the test file alone. */
export async function iotHubRig(address: string, over: RigProtocol = 'mqtt'): Promise<IotHubRig> {
  const hub = await hubMqttRig({ address });
  await hub.create({ deviceId: HUB_DEVICE });
  const { authentication } = await hub.hub.hub.identities.device(HUB, HUB_DEVICE);
  if (authentication.type !== 'sas') throw new Error('The device has no keys.');
  const { primaryKey: primary, secondaryKey: secondary } = authentication.symmetricKey;
  const port = { amqp: hub.amqpPort, mqtt: hub.port, amqp_ws: hub.webSocketPort, mqtt_ws: hub.webSocketPort }[over];
  const proxy = await startTcpProxy({ target: { host: address, port }, address });
  const clock: Clock = {
    bootId: systemClock.bootId,
    wallMs: () => hub.clock.wallMs(),
    monotonicMs: () => systemClock.monotonicMs(),
    quality: () => 'synced',
    now: () => hub.clock.now(),
    sleep: (ms, signal) => systemClock.sleep(ms / 100, signal),
    after: (ms, callback) => systemClock.after(ms, callback),
  };
  return {
    hub,
    proxy,
    keys: { primary, secondary },
    clock,
    transport: (config = {}, transportClock = clock) => {
      const proof = config.certificate === undefined ? { shared_access_key: primary } : {};
      const parsed = iotHubUpstreamConfig.parse({
        host_name: HOST,
        device_id: HUB_DEVICE,
        ...proof,
        gateway_host_name: address,
        port: proxy.port,
        ca: hub.authority.certificate,
        protocol: over,
        ...config,
      });
      return createIotHubTransport(parsed, { ...endpointContext(), clock: transportClock });
    },
    [Symbol.asyncDispose]: async () => {
      await proxy[Symbol.asyncDispose]();
      await hub[Symbol.asyncDispose]();
    },
  };
}

/** A clock whose timers for renewals the test ends; it counts the orderly ends of connections. */
export function clockWithRenewals(base: Clock): {
  readonly clock: Clock;
  readonly renewals: (() => void)[];
  readonly goodbyes: () => number;
} {
  const renewals: (() => void)[] = [];
  let goodbyes = 0;
  const after: Clock['after'] = (ms, callback) => {
    // What `end` of a connection waits for its peer.
    if (ms === 500) goodbyes += 1;
    if (ms < 1_000_000) return base.after(ms, callback);
    renewals.push(callback);
    return () => {};
  };
  return { clock: { ...base, after }, renewals, goodbyes: () => goodbyes };
}
