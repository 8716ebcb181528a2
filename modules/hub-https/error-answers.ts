// Whatever goes wrong becomes the service's error: header, body and status (contract/service-02-errors.md, section 1).

import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import {
  errorText,
  httpErrorBody,
  iotHubError,
  iotHubErrorOf,
  nestedErrorBody,
  randomUuid,
  type HeadContext,
  type IotHubErrorName,
} from '#sdk';

/** Fastify's own refusals, by status. */
const FRAMEWORK_ERRORS: Readonly<Record<number, IotHubErrorName>> = {
  400: 'ArgumentInvalid',
  404: 'GenericNotFound',
  413: 'MessageTooLarge',
  415: 'GenericUnsupportedMediaType',
};

/** Answers a request with what is thrown. */
export type AnswerError = (request: FastifyRequest, reply: FastifyReply, error: unknown) => Promise<void>;

export function createErrorAnswers(context: HeadContext): AnswerError {
  const { clock, log } = context;
  return async (request, reply, error) => {
    const fault = iotHubErrorOf(asRefusal(error));
    if (fault.httpStatus >= 500 && fault.name !== 'GatewayTimeout') {
      log.warn({ path: request.routeOptions.url, error: errorText(error) }, 'A request to the local hub failed.');
    }
    if (fault.httpStatus < 500) context.reportRefusal(fault.name, { remoteAddress: request.socket.remoteAddress });
    const id = randomUuid().replaceAll('-', '');
    // Direct methods are answered in another form than all the rest.
    const isMethod = request.routeOptions.url?.endsWith('/methods') ?? false;
    const body = (isMethod ? nestedErrorBody : httpErrorBody)(fault, id, clock.wallMs());
    reply.header('iothub-errorcode', fault.name).type('application/json; charset=utf-8');
    await reply.status(fault.httpStatus).send(body);
  };
}

/** Fastify refuses some requests itself. */
function asRefusal(error: unknown): unknown {
  const { code, statusCode, message } = error as Partial<FastifyError>;
  const name = code?.startsWith('FST_') ? FRAMEWORK_ERRORS[statusCode ?? 500] : undefined;
  return name === undefined ? error : iotHubError(name, message ?? '');
}

export function addErrorAnswers(app: FastifyInstance, answer: AnswerError): void {
  app.addHook('onRequest', (_request, reply, done) => {
    reply.header('x-ms-request-id', randomUuid());
    done();
  });
  app.setErrorHandler((error, request, reply) => answer(request, reply, error));
  app.setNotFoundHandler((request, reply) => {
    const what = `${request.method} ${request.url.replace(/\?.*$/s, '').slice(0, 200)}`;
    return answer(request, reply, iotHubError('GenericNotFound', `This hub has no ${what}.`));
  });
}
