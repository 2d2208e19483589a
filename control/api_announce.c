/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/announce.h"
#include "control/api.h"

/* GET /v1/announce, PUT /v1/maintenance. */

static void reply(struct lb_api_request *request)
{
	struct lb_writer out = {0};

	lb_announce_write(request->model->announce, &out);
	lb_api_reply_written(request, 200, &out);
}

void lb_api_announce(struct lb_api_request *request)
{
	reply(request);
}

void lb_api_maintenance(struct lb_api_request *request)
{
	struct lb_announce *announce = request->model->announce;
	json_t *body = lb_api_body_object(request), *on;
	char why[300] = "out of memory";

	if (body == NULL)
		return;
	on = json_object_get(body, "on");
	if (!json_is_boolean(on) || json_object_size(body) != 1)
		lb_api_error(request, 400, "invalid", "on", "expected {\"on\": true} or {\"on\": false}");
	else if (json_is_true(on) && !lb_announce_is_configured(announce))
		lb_api_error(request, 409, "conflict", "announce",
			"nothing is announced: the config has no announce.table");
	else if (lb_announce_set_maintenance(announce, json_is_true(on), why, sizeof(why)) < 0)
		lb_api_error(request, 500, "internal", NULL, "cannot be saved: %s", why);
	else
		reply(request);
	json_decref(body);
}
