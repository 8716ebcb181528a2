// A gateway that takes in from a broker what it publishes there: each message comes back and is sent again, without end.
// Told and not refused, because routes can keep what goes there apart from what comes in.

import { UPSTREAM_ENDPOINT } from '../core/endpoint.ts';
import type { BrokerPlace, HeardTopics, PublishedTopic } from '../core/module.ts';
import type { AdapterConfig, EndpointConfig, GatewayConfig } from './config.ts';
import { type Explained, sentence } from './explain.ts';
import type { ModuleCatalogue } from './schema.ts';

/** Stands for every device that may speak on a topic. */
const ANY_DEVICE = 'any-device';

export function findLoops(
  { gatewayId, adapters, upstream, endpoints }: GatewayConfig,
  catalogue: ModuleCatalogue,
): Explained[] {
  const sinks = (upstream === undefined ? endpoints : [upstream, ...endpoints]).filter(runs);
  return adapters.filter(runs).flatMap((adapter) =>
    heardBy(adapter, catalogue).flatMap((heard) =>
      sinks.flatMap((sink): Explained[] => {
        const published = publishedBy(sink, catalogue);
        if (published === undefined || !isSameBroker(heard, published)) return [];
        const topic = published.template.replace('{gateway_id}', gatewayId).replace('{device_id}', ANY_DEVICE);
        if (!heard.takes(topic)) return [];
        const owner = sink.name === UPSTREAM_ENDPOINT ? 'upstream' : `endpoints.${sink.name}`;
        const message = `takes in what ${owner} publishes on the same broker (${published.template}): it comes back and is sent again, without end, unless routes keep the two apart; use another topic`;
        return [{ path: ['adapters', adapter.id, ...heard.path], at: 'value', message: sentence(message) }];
      }),
    ),
  );
}

function runs({ enabled, fault }: AdapterConfig | EndpointConfig): boolean {
  return enabled && fault === undefined;
}

// The settings were parsed by the module's own schema.
function heardBy({ type, settings }: AdapterConfig, catalogue: ModuleCatalogue): readonly HeardTopics[] {
  const module = catalogue.find('adapters', type);
  if (module?.kind !== 'adapter') return [];
  return (module.hears as ((settings: unknown) => readonly HeardTopics[]) | undefined)?.(settings) ?? [];
}

function publishedBy({ type, settings }: EndpointConfig, catalogue: ModuleCatalogue): PublishedTopic | undefined {
  const module = catalogue.find('endpoints', type);
  if (module?.kind !== 'upstream') return undefined;
  return (module.publishes as ((settings: unknown) => PublishedTopic) | undefined)?.(settings);
}

/** Names are not looked up: a broker that has several may be missed. */
function isSameBroker(left: BrokerPlace, right: BrokerPlace): boolean {
  if (left.port !== right.port) return false;
  const hosts = [left, right].map(({ host }) =>
    host.toLowerCase() === 'localhost' ? '127.0.0.1' : host.toLowerCase(),
  );
  return hosts[0] === hosts[1] || (hosts.some(isEveryAddress) && hosts.some(isLoopback));
}

/** Of a listener. */
function isEveryAddress(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}

function isLoopback(host: string): boolean {
  return host === '::1' || host.startsWith('127.');
}
