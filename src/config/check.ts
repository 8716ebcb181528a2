// Faults between parts, which no schema can see: device ids that stand twice, routes to nowhere.

import { isDeviceId } from '../core/device.ts';
import { EVENTS_ENDPOINT, UPSTREAM_ENDPOINT } from '../core/endpoint.ts';
import { LIMITS } from '../core/limits.ts';
import type { SiteFacts } from '../core/module.ts';
import { isRecord } from './describe.ts';
import { type Explained, sentence } from './explain.ts';
import { RESERVED_ENDPOINTS } from './schema.ts';
import { nearest } from './nearest.ts';

export interface ReferenceOptions extends SiteFacts {
  readonly checkCondition?: (text: string) => string | undefined;
}

/** Works on raw values, because faults elsewhere must not hide these. */
export function checkReferences(values: unknown, options: ReferenceOptions): Explained[] {
  const root = isRecord(values) ? values : {};
  return [...checkDevices(root, options), ...checkRoutes(root, options), ...checkUrgent(root, options)];
}

function checkDevices(root: Record<string, unknown>, { gatewayId }: SiteFacts): Explained[] {
  const faults: Explained[] = [];
  const owners = new Map<string, string>();
  const adapters = isRecord(root['adapters']) ? root['adapters'] : {};
  for (const [adapterId, adapter] of Object.entries(adapters)) {
    const devices = isRecord(adapter) ? adapter['devices'] : undefined;
    if (!isRecord(devices)) continue;
    for (const deviceId of Object.keys(devices)) {
      const path = ['adapters', adapterId, 'devices', deviceId];
      const owner = owners.get(deviceId);
      if (owner !== undefined) {
        const message = `the device id "${deviceId}" is already used by adapters.${owner}; ids are unique over all adapters.`;
        faults.push({ path, at: 'key', message });
      } else if (deviceId === gatewayId) {
        faults.push({
          path,
          at: 'key',
          message: `the device id "${deviceId}" is the gateway's own (gateway.id); choose another.`,
        });
      } else if (!isDeviceId(deviceId)) {
        // An id is the gateway's business, whatever the module's schema says of the rest.
        const message = `the device id ${JSON.stringify(deviceId)} must be 1 to 128 letters, digits or - . % _ * ? ! ( ) , : = @ $ ' (no space, / + #).`;
        faults.push({ path, at: 'key', message });
      }
      owners.set(deviceId, owner ?? adapterId);
    }
  }
  if (owners.size > LIMITS.devices) {
    faults.push({ path: ['adapters'], at: 'key', message: `${owners.size} devices; the most is ${LIMITS.devices}.` });
  }
  return faults;
}

function checkRoutes(root: Record<string, unknown>, options: ReferenceOptions): Explained[] {
  const faults: Explained[] = [];
  const routes = Array.isArray(root['routes']) ? (root['routes'] as unknown[]) : [];
  const upstream = root['upstream'] === undefined || root['upstream'] === null ? [] : [UPSTREAM_ENDPOINT];
  const endpoints = [...upstream, ...(isRecord(root['endpoints']) ? Object.keys(root['endpoints']) : [])].filter(
    (name, index) => index < upstream.length || !RESERVED_ENDPOINTS.includes(name),
  );
  if (isRecord(root['hub']) && root['hub']['enabled'] === true) endpoints.push(EVENTS_ENDPOINT);
  const names = new Map<string, number>();
  for (const [index, route] of routes.entries()) {
    if (!isRecord(route)) continue;
    const { name, endpoint, condition } = route as { name?: unknown; endpoint?: unknown; condition?: unknown };
    if (typeof name === 'string') {
      const first = names.get(name);
      if (first === undefined) names.set(name, index);
      else
        faults.push({
          path: ['routes', index, 'name'],
          at: 'value',
          message: `"${name}" is already the name of routes[${first}].`,
        });
    }
    if (typeof endpoint === 'string' && !endpoints.includes(endpoint)) {
      faults.push({ path: ['routes', index, 'endpoint'], at: 'value', message: unknownEndpoint(endpoint, endpoints) });
    }
    if (typeof condition === 'string' && condition.length <= LIMITS.condition_chars) {
      const wrong = options.checkCondition?.(condition);
      if (wrong !== undefined)
        faults.push({ path: ['routes', index, 'condition'], at: 'value', message: sentence(wrong) });
    }
  }
  return faults;
}

function checkUrgent(root: Record<string, unknown>, { checkCondition }: ReferenceOptions): Explained[] {
  const endpoints = isRecord(root['endpoints']) ? Object.entries(root['endpoints']) : [];
  const places = [
    { path: ['upstream'], entry: root['upstream'] },
    ...endpoints.map(([name, entry]) => ({ path: ['endpoints', name], entry })),
  ];
  return places.flatMap(({ path, entry }): Explained[] => {
    const urgent = isRecord(entry) ? entry['urgent'] : undefined;
    const wrong = typeof urgent === 'string' ? checkCondition?.(urgent.slice(0, LIMITS.condition_chars)) : undefined;
    return wrong === undefined ? [] : [{ path: [...path, 'urgent'], at: 'value', message: sentence(wrong) }];
  });
}

function unknownEndpoint(endpoint: string, endpoints: readonly string[]): string {
  if (endpoint === UPSTREAM_ENDPOINT) return 'there is no upstream; add `upstream:` or name an endpoint.';
  if (endpoint === EVENTS_ENDPOINT) return 'there are no events without the local hub; set `hub.enabled`.';
  const meant = nearest(endpoint, endpoints);
  const list =
    endpoints.length === 0 ? 'there are none; add it under `endpoints:`.' : `there are: ${endpoints.join(', ')}.`;
  return `there is no endpoint "${endpoint.slice(0, 60)}"; ${list}${meant === undefined ? '' : ` Did you mean "${meant}"?`}`;
}
