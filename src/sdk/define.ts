// The functions with which a module declares itself. They only check types; the value is the declaration.

import type { z } from 'zod';
import type { AdapterDefinition, EndpointDefinition, UpstreamDefinition } from '../core/module.ts';
import type { ScanDefinition } from '../core/scan.ts';

// The catalogue holds definitions of many schemas in one array, hence the widening to the base schema on return.
export function defineAdapter<Schema extends z.ZodObject>(
  definition: Omit<AdapterDefinition<Schema>, 'kind'>,
): AdapterDefinition {
  return { kind: 'adapter', ...definition } as unknown as AdapterDefinition;
}

export function defineEndpoint<Schema extends z.ZodObject>(
  definition: Omit<EndpointDefinition<Schema>, 'kind'>,
): EndpointDefinition {
  return { kind: 'endpoint', ...definition } as unknown as EndpointDefinition;
}

export function defineUpstream<Schema extends z.ZodObject>(
  definition: Omit<UpstreamDefinition<Schema>, 'kind'>,
): UpstreamDefinition {
  return { kind: 'upstream', ...definition } as unknown as UpstreamDefinition;
}

export function defineScan<Schema extends z.ZodObject>(definition: ScanDefinition<Schema>): ScanDefinition {
  return definition;
}
