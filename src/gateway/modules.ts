// From configuration to what can be built: finds the module of each entry and binds its settings.

import assert from 'node:assert';
import type { AdapterContext, Adapter } from '../core/adapter.ts';
import type { AdapterConfig, EndpointConfig, GatewayConfig } from '../config/config.ts';
import type { Endpoint, EndpointContext } from '../core/endpoint.ts';
import { GatewayError } from '../core/errors.ts';
import type { ModuleDefinition } from '../core/module.ts';
import type { Message } from '../core/message.ts';
import type { Outbox, StreamDefinition } from '../core/outbox.ts';
import type { AdapterPlan } from '../devices/adapter-supervisor.ts';
import { withSimulatedDevices } from '../devices/simulated-devices.ts';
import { markReplays } from '../devices/stand-in-marks.ts';
import { eventsPlace, eventsStream } from '../iothub/events-stream.ts';
import type { Telemetry } from '../observe/events.ts';
import { createRouter, type Router } from '../pipeline/route.ts';

export type ModuleList = readonly ModuleDefinition[];

/**
 * The plan of one adapter. The configuration has been checked against the same list, so its module is there.
 * @param simulateAll simulates every device that is configured, unless it replays a capture
 */
export function adapterPlan(config: AdapterConfig, modules: ModuleList, simulateAll = false): AdapterPlan {
  const definition = modules.find((module) => module.kind === 'adapter' && module.type === config.type);
  assert(definition?.kind === 'adapter', `no adapter module of type ${config.type}`);
  const replayed = replayedDevices(config);
  return {
    adapterId: config.id,
    type: config.type,
    deviceIds: Object.keys(config.settings['devices'] ?? {}),
    ...(replayed.size > 0 && {
      caveat: `${replayed.size} of its devices ${replayed.size === 1 ? 'is' : 'are'} replayed.`,
    }),
    create: async (outer: AdapterContext): Promise<Adapter> => {
      refuseFault(config);
      const build = await definition.load();
      const context = markReplays({ ...outer, isOnDesk: config.simulate || simulateAll }, replayed);
      const { simulated, others } = splitSimulated(config, simulateAll, definition.servesOthers?.(config.settings));
      if (simulated === undefined) return build(config.settings, context);
      const model = build(simulated, context);
      const infos = model.typicalDevices?.() ?? model.devices();
      const isSimulated = new Set(infos.map(({ deviceId }) => deviceId));
      // A device that speaks by itself does not mix its values with those that are made up.
      const addDevice: AdapterContext['addDevice'] = (device) =>
        isSimulated.has(device.deviceId) ? 'foreign_device' : context.addDevice(device);
      const inner = others === undefined ? undefined : build(others, { ...context, addDevice });
      return withSimulatedDevices(inner, infos, context);
    },
  };
}

/** Those that a capture stands in for: their own, or one of the whole line. */
function replayedDevices({ settings }: AdapterConfig): ReadonlySet<string> {
  const devices = Object.entries((settings['devices'] ?? {}) as Readonly<Record<string, StandInSettings>>);
  return new Set(devices.filter(([, device]) => isReplayed(settings, device)).map(([deviceId]) => deviceId));
}

function isReplayed(settings: AdapterConfig['settings'], device: StandInSettings): boolean {
  return device.simulate !== true && (device.replay ?? settings['replay']) !== undefined;
}

/** @throws GatewayError GW_CONFIG_INVALID for a part that cannot run. */
function refuseFault({ fault }: AdapterConfig | EndpointConfig): void {
  if (fault !== undefined) throw new GatewayError('GW_CONFIG_INVALID', fault);
}

interface SplitSettings {
  /** Settings with the devices that are simulated; undefined when none is. */
  readonly simulated: Readonly<Record<string, unknown>> | undefined;
  /** Settings with the other devices; undefined when all are simulated, and there is nothing else to do. */
  readonly others: Readonly<Record<string, unknown>> | undefined;
}

/** What every adapter's devices have that can be simulated (`simulateFields` and `captureFields` of the sdk). */
interface StandInSettings {
  readonly simulate?: boolean;
  readonly replay?: unknown;
}

function splitSimulated(
  { settings, simulate }: AdapterConfig,
  simulateAll: boolean,
  servesOthers = false,
): SplitSettings {
  const devices = Object.entries((settings['devices'] ?? {}) as Readonly<Record<string, StandInSettings>>);
  const isSimulated = ([, device]: [string, StandInSettings]): boolean =>
    device.simulate === true || ((simulate || simulateAll) && !isReplayed(settings, device));
  const [on, off] = [devices.filter(isSimulated), devices.filter((device) => !isSimulated(device))];
  const having = (chosen: typeof devices): SplitSettings['others'] =>
    chosen.length === 0 ? undefined : { ...settings, devices: Object.fromEntries(chosen) };
  const others = servesOthers ? { ...settings, devices: Object.fromEntries(off) } : having(off);
  return { simulated: having(on), others };
}

/** Builds the endpoint of one entry of `upstream` or `endpoints`. */
export async function createEndpoint(
  config: EndpointConfig,
  modules: ModuleList,
  context: EndpointContext,
): Promise<Endpoint> {
  refuseFault(config);
  const definition = modules.find((module) => module.kind !== 'adapter' && module.type === config.type);
  assert(definition !== undefined && definition.kind !== 'adapter', `no endpoint module of type ${config.type}`);
  return (await definition.load())(config.settings, context);
}

/** `$upstream` first, when there is one. */
export function endpointsOf(config: GatewayConfig): readonly EndpointConfig[] {
  return config.upstream === undefined ? config.endpoints : [config.upstream, ...config.endpoints];
}

/**
 * @param outbox where the hub's events are kept once its stream is open; without it messages go to queues alone.
 * @param admits whether a message goes to the hub's events.
 */
export function routerFor(
  config: GatewayConfig,
  outbox?: Pick<Outbox, 'stream'>,
  admits: (message: Message) => boolean = () => true,
): Router {
  const { hub } = config;
  const routes = { endpoints: endpointsOf(config), routes: config.routes };
  if (hub === undefined || outbox === undefined) return createRouter(routes);
  // As many as the stream was made with, whatever is configured now.
  const { partitions } = outbox.stream(eventsStream(hub.hubId));
  return createRouter({
    ...routes,
    events: (message) => (admits(message) ? eventsPlace(message, hub.hubId, partitions) : undefined),
  });
}

/** The streams that the outbox has to keep. */
function streamsFor({ hub }: GatewayConfig): readonly StreamDefinition[] {
  if (hub === undefined) return [];
  const { partitions, retentionSecs, maxBytes } = hub.events;
  return [{ name: eventsStream(hub.hubId), partitions, retentionSecs, maxBytes }];
}

/** Has the outbox keep the streams of a configuration. Those that nobody has and had cost no commit. */
export async function keepStreams(outbox: Outbox, config: GatewayConfig, telemetry: Telemetry): Promise<void> {
  const streams = streamsFor(config);
  if (streams.length > 0 || outbox.stats().streams.length > 0) await outbox.setStreams(streams);
  for (const { name, partitions: configured } of streams) {
    const { partitions } = outbox.stream(name);
    if (partitions === configured) continue;
    telemetry.emit('hub_partitions_fixed', { key: name, field: 'hub.events.partitions', configured, partitions });
  }
}
