// From configuration to what can be built: finds the module of each entry and binds its settings.

import assert from 'node:assert';
import type { AdapterContext, Adapter } from '../core/adapter.ts';
import type { AdapterConfig, EndpointConfig, GatewayConfig } from '../config/config.ts';
import type { Endpoint, EndpointContext } from '../core/endpoint.ts';
import type { ModuleDefinition } from '../core/module.ts';
import type { AdapterPlan } from '../devices/adapter-supervisor.ts';
import { createRouter, type Router } from '../pipeline/route.ts';

export type ModuleList = readonly ModuleDefinition[];

/** The plan of one adapter. The configuration has been checked against the same list, so its module is there. */
export function adapterPlan(config: AdapterConfig, modules: ModuleList): AdapterPlan {
  const definition = modules.find((module) => module.kind === 'adapter' && module.type === config.type);
  assert(definition?.kind === 'adapter', `no adapter module of type ${config.type}`);
  return {
    adapterId: config.id,
    type: config.type,
    deviceIds: Object.keys(config.settings['devices'] ?? {}),
    create: async (context: AdapterContext): Promise<Adapter> => (await definition.load())(config.settings, context),
  };
}

/** Builds the endpoint of one entry of `upstream` or `endpoints`. */
export async function createEndpoint(
  config: EndpointConfig,
  modules: ModuleList,
  context: EndpointContext,
): Promise<Endpoint> {
  const definition = modules.find((module) => module.kind !== 'adapter' && module.type === config.type);
  assert(definition !== undefined && definition.kind !== 'adapter', `no endpoint module of type ${config.type}`);
  return (await definition.load())(config.settings, context);
}

/** `$upstream` first, when there is one. */
export function endpointsOf(config: GatewayConfig): readonly EndpointConfig[] {
  return config.upstream === undefined ? config.endpoints : [config.upstream, ...config.endpoints];
}

export function routerFor(config: GatewayConfig): Router {
  return createRouter({ endpoints: endpointsOf(config), routes: config.routes });
}
