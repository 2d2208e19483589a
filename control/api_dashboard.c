/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/api.h"

#include "dashboard_page.h" /* made from dashboard.html: lb_dashboard_page[] */

/*
 * GET /: the dashboard, one page that asks the API for what it shows. It may load nothing from
 * elsewhere and stand in no other site's frame.
 */
void lb_api_dashboard(struct lb_api_request *request)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(request->http);

	evhttp_add_header(headers, "Content-Security-Policy",
		"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
		"img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
		"frame-ancestors 'none'");
	evhttp_add_header(headers, "Referrer-Policy", "no-referrer");
	lb_api_reply_text(request, 200, "text/html; charset=utf-8", lb_dashboard_page);
}
