// How a route is written down: who may use it, how much body it takes, and what is done. Who it is is known before a byte of the
// body is read.

import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from 'fastify';
import { iotHubError, isRegistryId, type Hub, type IdentityRef, type Permission, type Principal } from '#sdk';
import { enterDevice, enterModuleCaller, enterService } from './credentials.ts';
import { jsonBytes } from './json-body.ts';

/** One request that was let in. */
export interface Call {
  readonly principal: Principal;
  readonly hubId: string;
  /** Device or module that the path names; of a service route without one, the empty device. */
  readonly ref: IdentityRef;
  /** Further parameters of the path, decoded. */
  readonly param: (name: string) => string;
  /** The last one, where a name stands more than once; undefined where it does not. */
  readonly query: (name: string) => string | undefined;
  /** A header, by its name in lower case. */
  readonly header: (name: string) => string | undefined;
  readonly body: Buffer;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  /** Aborts when the client hangs up. */
  readonly hungUp: () => AbortSignal;
}

export interface Route {
  readonly method: HTTPMethods;
  /** `:deviceId` and `:moduleId` are checked against the rule of ids. */
  readonly url: string;
  /** `device`: the device of the path itself; else the right that a policy must have. */
  readonly who: 'device' | Permission;
  /** Most bytes of the body. Default none. */
  readonly bodyBytes?: number;
  /** Resolves with what the answer is the JSON of, or with its bytes; undefined answers 204. */
  readonly run: (call: Call) => Promise<unknown>;
}

export type Routes = (route: Route) => void;

export function createRoutes(app: FastifyInstance, hub: Hub): Routes {
  const principals = new WeakMap<FastifyRequest, Principal>();

  async function enter(request: FastifyRequest, who: Route['who']): Promise<void> {
    const ref = refOf(request);
    const isModuleCaller = request.headers['x-ms-edge-moduleid'] !== undefined && who !== 'device';
    if (!isModuleCaller) checkVersion(request);
    let principal: Principal;
    if (who === 'device') principal = await enterDevice(hub, request, ref);
    else if (isModuleCaller) principal = await enterModuleCaller(hub, request, ref);
    else principal = await enterService(hub, request, who);
    principals.set(request, principal);
  }

  return ({ method, url, who, bodyBytes = 0, run }) => {
    app.route({
      method,
      url,
      // Fastify takes no limit of 0.
      bodyLimit: Math.max(1, bodyBytes),
      onRequest: (request) => enter(request, who),
      async handler(request, reply) {
        const principal = principals.get(request) as Principal;
        const result = await run({
          principal,
          hubId: principal.hubId,
          ref: refOf(request),
          param: (name) => paramsOf(request)[name] ?? '',
          query: (name) => queryOf(request, name),
          header: (name) => headerOf(request, name),
          body: Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0),
          request,
          reply,
          hungUp: () => hungUp(reply),
        });
        if (reply.sent) return reply;
        if (Array.isArray(result)) return reply.send(jsonBytes(reply, Buffer.from(JSON.stringify(result))));
        return result === undefined ? reply.status(204).send() : reply.send(result);
      },
    });
  };
}

function paramsOf(request: FastifyRequest): Readonly<Record<string, string | undefined>> {
  return request.params as Readonly<Record<string, string | undefined>>;
}

function queryOf(request: FastifyRequest, name: string): string | undefined {
  const value = (request.query as Readonly<Record<string, string | readonly string[] | undefined>>)[name];
  return typeof value === 'object' ? value.at(-1) : value;
}

function headerOf(request: FastifyRequest, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value.join(', ') : value;
}

/** @throws GatewayError GW_IOTHUB ArgumentInvalid for what no id can be. */
function refOf(request: FastifyRequest): IdentityRef {
  const { deviceId = '', moduleId } = paramsOf(request);
  const ids = [deviceId, moduleId].filter((id) => id !== undefined && id !== '');
  for (const id of ids as string[]) {
    if (!isRegistryId(id)) throw iotHubError('ArgumentInvalid', `"${id.slice(0, 140)}" is not an id of this hub.`);
  }
  return moduleId === undefined ? { deviceId } : { deviceId, moduleId };
}

/** Every version that looks like one is taken: clients of ten years send what they were built for. */
function checkVersion(request: FastifyRequest): void {
  const version = queryOf(request, 'api-version');
  if (version !== undefined && /^\d{4}-\d{2}-\d{2}(-[a-z]+)?$/i.test(version)) return;
  throw iotHubError(
    'InvalidProtocolVersion',
    version === undefined
      ? 'The request has no api-version; add ?api-version=2021-04-12.'
      : `"${version.slice(0, 40)}" is not an api-version such as 2021-04-12.`,
  );
}

function hungUp(reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) gone.abort();
  });
  return gone.signal;
}
